// What the actions share: how a runner is talked to, and cache-tool. Nothing that is
// wrong with the cache fails a job.
'use strict';
const fs = require('fs');
const os = require('os');
const path = require('path');
const { spawnSync } = require('child_process');

const input = (name) => (process.env[`INPUT_${name.toUpperCase()}`] || '').trim();
const lines = (name) => input(name).split('\n').map((s) => s.trim()).filter(Boolean);
const flag = (name) => input(name).toLowerCase() === 'true';
const remembered = (name) => process.env[`STATE_${name}`] || '';

// tell writes a value to one of the runner's files. The mark around it is nothing that
// a value can hold.
function tell(file, name, value) {
  if (process.env[file]) {
    const mark = `end-${require('crypto').randomUUID()}`;
    fs.appendFileSync(process.env[file], `${name}<<${mark}\n${value}\n${mark}\n`);
  }
}
const output = (name, value) => tell('GITHUB_OUTPUT', name, value);
const remember = (name, value) => tell('GITHUB_STATE', name, value);

const escaped = (s) => String(s).replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
const warn = (text) => console.log(`::warning::cache-tool: ${escaped(text)}`);

function fail(text) {
  console.log(`::error::cache-tool: ${escaped(text)}`);
  process.exitCode = 1;
}

// cacheTool runs a command of cache-tool's between a pull and, if asked for, a push.
function cacheTool(push, args) {
  const program = input('program') || 'cache-tool';
  const env = { ...process.env };
  if (input('remote')) env.CACHE_TOOL_REMOTE = input('remote');
  if (input('token')) env.CACHE_TOOL_TOKEN = input('token');
  delete env.GITHUB_STEP_SUMMARY; // which is for builds
  const wrap = ['-q', 'wrap', ...(push ? [] : ['--no-push']), '--', program, ...args];
  const ran = spawnSync(program, wrap, { env, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 1 << 30 });
  if (ran.error) warn(`${program}: ${ran.error.message}`);
  return ran;
}

// restore returns what cache-tool says of the entry, or nothing if there is none.
function restore(key, prefixes, lookupOnly) {
  const args = ['restore', '--json', ...prefixes.flatMap((p) => ['--or', p]), ...(lookupOnly ? ['--dry-run'] : []), '--', `:${key}`];
  const ran = cacheTool(false, args);
  if (ran.status === 3) {
    console.log(`no entry ${key}`);
    return undefined;
  }
  let found;
  try {
    found = JSON.parse(ran.stdout);
  } catch (err) {
    // What went wrong has been said on standard error.
  }
  if (ran.status !== 0 || !found || !found.hit) {
    if (!ran.error) warn(`restore ${key}: exit code ${ran.status}`);
    return undefined;
  }
  console.log(`${lookupOnly ? 'found' : 'restored'} ${found.matched} from ${found.branch}: ${found.written} files, ${found.bytes} bytes`);
  return found;
}

// save keeps what there is of the paths.
function save(key, patterns) {
  const left = patterns.filter((p) => p.startsWith('!')).flatMap((p) => ['--exclude', p.slice(1).trim()]);
  const paths = patterns.filter((p) => !p.startsWith('!')).flatMap(expand);
  if (paths.length === 0) {
    warn(`save ${key}: there is nothing at ${patterns.join(', ')}`);
    return;
  }
  const ran = cacheTool(true, ['save', ...left, '--', key, ...paths]);
  if (!ran.error && ran.status !== 0) warn(`save ${key}: exit code ${ran.status}`);
  if (ran.stdout) process.stdout.write(ran.stdout);
}

// expand returns the paths that a pattern with *, ? and ** stands for, those that exist.
function expand(pattern) {
  if (pattern === '~' || pattern.startsWith('~/')) pattern = os.homedir() + pattern.slice(1);
  if (!/[*?]/.test(pattern)) return fs.existsSync(pattern) ? [pattern] : [];
  const parts = pattern.split('/');
  let found = [parts[0] === '' ? '/' : '.'];
  for (const part of parts.filter(Boolean)) {
    const step = (dir) => {
      if (part === '**') return [dir, ...below(dir)];
      if (!/[*?]/.test(part)) return [path.join(dir, part)].filter((p) => fs.existsSync(p));
      return names(dir).filter((name) => matches(part, name)).map((name) => path.join(dir, name));
    };
    found = [...new Set(found.flatMap(step))];
  }
  return found;
}

function names(dir) {
  try {
    return fs.readdirSync(dir).sort();
  } catch (err) {
    return []; // no directory
  }
}

function below(dir) {
  const dirs = names(dir).map((name) => path.join(dir, name)).filter((p) => fs.lstatSync(p).isDirectory());
  return dirs.flatMap((d) => [d, ...below(d)]);
}

function matches(pattern, name) {
  if (name.startsWith('.') && !pattern.startsWith('.')) return false;
  const source = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 's').test(name);
}

module.exports = { input, lines, flag, output, remember, remembered, fail, restore, save, expand };
