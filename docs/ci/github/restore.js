// Restores an entry; remembers for post.js what it found.
'use strict';
const action = require('./action.js');

const key = action.input('key');
action.remember('key', key);
action.output('cache-primary-key', key);
const found = action.restore(key, action.lines('restore-keys'), action.flag('lookup-only'));
if (found) {
  action.remember('matched', found.matched);
  action.output('cache-matched-key', found.matched);
  action.output('cache-hit', String(found.matched === key));
} else {
  action.output('cache-hit', '');
  if (action.flag('fail-on-cache-miss')) {
    action.fail(`no entry ${key}, and none that begins with one of the restore-keys`);
  }
}
