// Saves an entry.
'use strict';
const action = require('./action.js');

action.save(action.input('key'), action.lines('path'));
