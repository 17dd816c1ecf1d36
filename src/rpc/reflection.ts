import { Code } from '../base/errors.ts';
import type { FileDescriptor } from '../pb/descriptors.ts';
import {
  ServerReflectionDefinition,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from '../pb/reflection_v1.ts';
import { ServerReflectionDefinition as AlphaDefinition } from '../pb/reflection_v1alpha.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import type { MessageStream } from './types.ts';

/**
 * Server reflection, v1 and v1alpha (FEATURES A8): which services there are, and their message definitions.
 * `names` gives the services of the server that it is added to.
 */
export function reflectionServices(names: () => readonly string[]): RegisteredService[] {
  const serve = async (
    stream: MessageStream<ServerReflectionRequest, ServerReflectionResponse>,
  ): Promise<void> => {
    const { fileDescriptors } = await import('../pb/descriptors.ts');
    for await (const request of stream)
      await stream.send({
        validHost: request.host,
        originalRequest: request,
        messageResponse: answer(request.messageRequest, names(), fileDescriptors),
      });
  };
  return [
    service(ServerReflectionDefinition, { serverReflectionInfo: serve }),
    service(AlphaDefinition, { serverReflectionInfo: serve }),
  ];
}

type Answer = ServerReflectionResponse['messageResponse'];

function answer(
  request: ServerReflectionRequest['messageRequest'],
  names: readonly string[],
  files: readonly FileDescriptor[],
): Answer {
  switch (request?.$case) {
    case 'listServices':
      return {
        $case: 'listServicesResponse',
        value: { service: names.toSorted().map((name) => ({ name })) },
      };
    case 'fileByFilename':
      return definitions(
        files.find((file) => file.name === request.value),
        files,
        request.value,
      );
    case 'fileContainingSymbol':
      return definitions(
        files.find((file) => file.symbols.includes(request.value)),
        files,
        request.value,
      );
    case 'allExtensionNumbersOfType':
      return failure(Code.notFound, `no extensions of ${request.value}`);
    case 'fileContainingExtension':
      return failure(Code.notFound, `no extensions of ${request.value.containingType}`);
    default:
      return failure(Code.invalidArgument, 'invalid reflection request');
  }
}

/** The file that was asked for, first, and all that it builds on. */
function definitions(
  file: FileDescriptor | undefined,
  files: readonly FileDescriptor[],
  asked: string,
): Answer {
  if (!file) return failure(Code.notFound, `${asked} not found`);
  const needed = new Set<FileDescriptor>();
  const add = (one: FileDescriptor | undefined): void => {
    if (!one || needed.has(one)) return;
    needed.add(one);
    for (const name of one.dependencies) add(files.find((f) => f.name === name));
  };
  add(file);
  const fileDescriptorProto = [...needed].map((f) => Buffer.from(f.descriptor, 'base64'));
  return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
}

function failure(errorCode: number, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}
