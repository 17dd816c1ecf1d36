// A tree of files, built without any image: made, copied, linked, removed, merged.
//
//     node examples/llb/files.ts | buildctl build --output type=local,dest=out
import { chain, copy, diff, merge, mkdir, mkfile, rm, scratch, symlink } from 'buildkit-ts/llb';
import { write } from './common.ts';

const site = scratch()
  .dir('/site')
  .file([
    mkdir('.', { parents: true }),
    mkfile('index.html', '<h1>hello</h1>\n'),
    mkfile('draft.html', 'not yet\n', { mode: 0o600 }),
    symlink('index.html', '/site/start.html'),
  ]);
const published = site.file(rm('draft.html'), { customName: 'publish' });

// Not a step of its own: part of the one that copies from it.
const notes = chain(scratch(), [mkdir('/notes'), mkfile('/notes/todo', 'write more\n')]);
const documents = scratch().file(copy(notes, '/notes', '/documents', { owner: { user: 1000, group: 1000 } }));

const stamped = published.file(mkfile('/site/stamp', 'v1\n', { createdTime: new Date(0) }));

await write(merge([published, documents, diff(published, stamped)]));
