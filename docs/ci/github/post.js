// Saves an entry at the end of a job, unless that very key was restored.
'use strict';
const action = require('./action.js');

const key = action.remembered('key');
if (key && action.remembered('matched') === key) {
  console.log(`${key} was restored: nothing to save`);
} else if (key) {
  action.save(key, action.lines('path'));
}
