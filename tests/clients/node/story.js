// What all programs of this directory share; tests/clients/README.md says what they have in common.
'use strict';

const assert = require('node:assert/strict');
const readline = require('node:readline');

const ROUND = 20; // requests that must go well after an event before it is answered
const KEYS = 200; // keys that are written in turn meanwhile

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

class Story {
  constructor(port, prefix, options) {
    this.port = port;
    this.prefix = prefix;
    this.options = options;
    this.lines = [];
  }

  /** A key of this run's own. */
  key(name) {
    return `${this.prefix}:${name}`;
  }

  /** The same, on one shard with all others of its kind. */
  tagged(name) {
    return `{${this.prefix}}:${name}`;
  }

  begin() {
    const input = readline.createInterface({ input: process.stdin });
    input.on('line', (line) => this.lines.push(line.trim()));
    input.on('close', () => this.lines.push('end'));
    console.log('going');
  }

  /** Writes one value after another until "end"; none may fail, and all must be there then. */
  async goOn(write, read) {
    const written = new Map();
    let number = 0;
    const step = async () => {
      const key = this.key(number % KEYS);
      await write(key, String(number));
      written.set(key, String(number));
      const other = this.key((number * 7) % KEYS);
      assert.equal((await read(other)) ?? undefined, written.get(other));
      number += 1;
    };
    for (let n = 0; n < ROUND; n++) await step();
    this.begin();
    for (;;) {
      const line = this.lines.shift();
      if (line === 'end') break;
      await step();
      await sleep(0); // lets lines come in
      if (line) {
        for (let n = 0; n < ROUND; n++) await step();
        console.log('after', line);
      }
    }
    for (const [key, value] of written) assert.equal(await read(key), value);
  }

  /** The proxy is replaced meanwhile: requests may fail until then, and none may afterwards. */
  async comeBack(write, read) {
    await write(this.key('first'), '1');
    this.begin();
    for (let number = 0; ; number++) {
      const line = this.lines.shift();
      if (line === 'end') break;
      try {
        await write(this.key(number % KEYS), String(number));
        await sleep(0);
      } catch {
        await sleep(20);
      }
      if (line) {
        await eventually(async () => { await write(this.key('back'), '1'); return true; });
        for (let n = 0; n < ROUND; n++) {
          await write(this.key(`back${n}`), String(n));
          assert.equal(await read(this.key(`back${n}`)), String(n));
        }
        console.log('after', line);
      }
    }
    assert.equal(await read(this.key('first')), '1');
  }
}

/** Waits until the condition resolves to something true; a rejection is a no. */
async function eventually(condition, within = 20_000) {
  const limit = Date.now() + within;
  for (;;) {
    let failure;
    try {
      if (await condition()) return;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > limit) throw failure ?? new Error(`not within ${within} ms: ${condition}`);
    await sleep(10);
  }
}

/** What the promise comes to; does that until then, as what is done before a server waits may be too early. */
async function until(promise, act) {
  let isOver = false;
  const over = promise.finally(() => (isOver = true));
  while (!isOver) {
    await act();
    await sleep(20);
  }
  return over;
}

/** Runs the part that the command line names and ends the process, whatever is still open. */
function run(parts) {
  const [port, part, prefix, ...options] = process.argv.slice(2);
  if (port === undefined) {
    console.log(Object.keys(parts).join(' '));
    return;
  }
  parts[part](new Story(Number(port), prefix, options)).then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { Story, eventually, run, sleep, until };
