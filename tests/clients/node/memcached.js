// memcached, the package of that name: the text protocol.
'use strict';

const assert = require('node:assert/strict');
const { promisify } = require('node:util');
const Memcached = require('memcached');
const { run } = require('./story');

function connect(story) {
  // By itself it takes a server for dead for minutes after few failures.
  const client = new Memcached(`127.0.0.1:${story.port}`, { reconnect: 50, retry: 50, failures: 1000 });
  const names = ['get', 'set', 'add', 'replace', 'append', 'prepend', 'incr', 'decr', 'del', 'touch', 'getMulti', 'gets', 'cas'];
  return Object.fromEntries(names.map((name) => [name, promisify(client[name].bind(client))]));
}

run({
  async data(story) {
    const client = connect(story);
    assert.equal(await client.set(story.key('a'), { nested: [1] }, 1000), true);
    assert.deepEqual(await client.get(story.key('a')), { nested: [1] });
    await assert.rejects(client.add(story.key('a'), 1, 0), /not stored/i);
    assert.equal(await client.set(story.key('b'), 'v', 0), true);
    assert.equal(await client.append(story.key('b'), 'c'), true);
    assert.equal(await client.prepend(story.key('b'), 'a'), true);
    assert.equal(await client.get(story.key('b')), 'avc');
    await client.set(story.key('n'), 10, 0);
    assert.equal(await client.incr(story.key('n'), 5), 15);
    assert.equal(await client.decr(story.key('n'), 20), 0);
    assert.equal(await client.del(story.key('b')), true);
    assert.equal(await client.get(story.key('b')), undefined);
  },

  async many(story) {
    const client = connect(story);
    const names = Array.from({ length: 200 }, (_, n) => story.key(n));
    for (const name of names) await client.set(name, name, 0);
    assert.deepEqual({ ...(await client.getMulti(names)) }, Object.fromEntries(names.map((name) => [name, name])));
  },

  async cas(story) {
    const client = connect(story);
    const key = story.key('c');
    await client.set(key, 'one', 0);
    const { cas } = await client.gets(key);
    assert.equal(await client.cas(key, 'two', cas, 0), true);
    assert.equal(await client.cas(key, 'three', cas, 0), false);
    assert.equal(await client.get(key), 'two');
  },

  failover(story) {
    const client = connect(story);
    return story.goOn((key, value) => client.set(key, value, 0), (key) => client.get(key));
  },
});
