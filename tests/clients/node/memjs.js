// memjs: the binary protocol.
'use strict';

const assert = require('node:assert/strict');
const { Client } = require('memjs');
const { run, sleep } = require('./story');

const connect = (story) => Client.create(`127.0.0.1:${story.port}`, { timeout: 30, retry_delay: 0.02, retries: 2 });
const text = ({ value }) => value?.toString() ?? undefined;
/** It never calls back for a request that was under way when its server closed the connection (not reset it). */
const soon = (promise) => Promise.race([promise, sleep(2000).then(() => { throw new Error('no answer'); })]);
const numbers = (count) => Array.from({ length: count }, (_, n) => n);

run({
  async data(story) {
    const client = connect(story);
    const binary = Buffer.from([0, 13, 10, 255]);
    assert.equal(await client.set(story.key('a'), binary, { expires: 1000 }), true);
    assert.deepEqual((await client.get(story.key('a'))).value, binary);
    assert.equal(await client.add(story.key('a'), 'x', {}), false);
    assert.equal(await client.add(story.key('b'), 'x', {}), true);
    assert.equal(await client.replace(story.key('b'), 'v', {}), true);
    assert.equal(await client.replace(story.key('none'), 'v', {}), false);
    assert.equal(await client.append(story.key('b'), 'w'), true); // its prepend appends too
    assert.equal(text(await client.get(story.key('b'))), 'vw');
    assert.equal((await client.increment(story.key('n'), 5, { initial: 10 })).value, 10);
    assert.equal((await client.increment(story.key('n'), 5, {})).value, 15);
    assert.equal((await client.decrement(story.key('n'), 20, {})).value, 0);
    assert.equal(await client.touch(story.key('b'), 1000), true);
    assert.equal(await client.delete(story.key('b')), true);
    assert.equal(await client.delete(story.key('b')), false);
    assert.equal(text(await client.get(story.key('b'))), undefined);
    assert.equal(await client.set(story.key('large'), 'x'.repeat(900_000), {}), true);
    assert.equal(text(await client.get(story.key('large'))).length, 900_000);
    const statistics = await new Promise((done, failed) => {
      client.stats((error, server, stats) => (error ? failed(error) : done(stats)));
    });
    assert.ok('curr_items' in statistics);
  },

  /** What is asked at once goes as one; each answer finds the one who asked by its number. */
  async many(story) {
    const client = connect(story);
    const names = numbers(200).map((n) => story.key(n));
    assert.ok((await Promise.all(names.map((name) => client.set(name, name, {})))).every((stored) => stored));
    const found = await Promise.all([...names, story.key('none')].map((name) => client.get(name)));
    assert.deepEqual(found.map(text), [...names, undefined]);
    await Promise.all(names.slice(0, 100).map((name) => client.delete(name)));
    const left = await Promise.all(names.map((name) => client.get(name)));
    assert.equal(left.filter((one) => text(one) !== undefined).length, 100);
  },

  failover(story) {
    const client = connect(story);
    return story.goOn((key, value) => client.set(key, value, {}), async (key) => text(await client.get(key)));
  },

  restart(story) {
    const client = connect(story);
    const write = (key, value) => soon(client.set(key, value, {}));
    return story.comeBack(write, async (key) => text(await client.get(key)));
  },
});
