import { BuildError } from '../base/errors.ts';
import type { Client } from '../client/client.ts';
import { updateHistory } from '../client/history.ts';
import { type BuildHistoryEvent, BuildHistoryRequest, ControlDefinition } from '../pb/control.ts';
import { eventType, eventView, localTime } from './build-event.ts';
import { type CommandContext, openClient } from './context.ts';
import { TABS, tabulate } from './table.ts';
import { parseTemplate, type Template } from './template.ts';

const HEADER = 'TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION';

/** `buildctl debug histories` (FEATURES L18). */
export async function runHistories(context: CommandContext): Promise<void> {
  const rows = new Rows(templateOf(context), true);
  using client = await openClient(context);
  for await (const event of records(client, context.signal)) rows.write(event);
  rows.end();
}

/** `buildctl prune-histories` (FEATURES L17). */
export async function runPruneHistories(context: CommandContext): Promise<void> {
  const { signal } = context;
  const rows = new Rows(templateOf(context), false);
  using client = await openClient(context);
  const failures: BuildError[] = [];
  for await (const event of records(client, signal)) {
    if (!event.record || event.record.pinned) continue;
    try {
      await updateHistory(client, event.record.Ref, { delete: true }, { signal });
      rows.write(event);
    } catch (error) {
      signal.throwIfAborted();
      failures.push(BuildError.from(error));
    }
  }
  rows.end();
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1)
    throw new BuildError(failures.map((failure) => failure.message).join('\n'), { cause: failures[0] });
}

async function* records(client: Client, signal: AbortSignal): AsyncGenerator<BuildHistoryEvent> {
  const control = await client.service(ControlDefinition);
  yield* control.listenBuildHistory(BuildHistoryRequest.create({ EarlyExit: true }), { signal });
}

function templateOf({ flags }: CommandContext): Template | undefined {
  const format = flags.string('format');
  return format === '' ? undefined : parseTemplate(format);
}

/** The table, written as records come; the header goes with the first. */
class Rows {
  readonly #template: Template | undefined;
  readonly #pins: boolean;
  #header: string;

  constructor(template: Template | undefined, pins: boolean) {
    this.#template = template;
    this.#pins = pins;
    this.#header = template ? '' : `${HEADER}${pins ? '\tPINNED' : ''}\n`;
  }

  write(event: BuildHistoryEvent): void {
    if (this.#template) return void process.stdout.write(`${this.#template(eventView(event))}\n`);
    const { record } = event;
    const cells = [
      eventType(event),
      record?.Ref ?? '',
      localTime(record?.CreatedAt),
      localTime(record?.CompletedAt),
      record?.Generation ?? 0,
      ...(this.#pins ? [record?.pinned ? '*' : ''] : []),
    ];
    process.stdout.write(tabulate(`${this.#header}${cells.join('\t')}\n`, TABS));
    this.#header = '';
  }

  end(): void {
    if (this.#header !== '') process.stdout.write(tabulate(this.#header, TABS));
  }
}
