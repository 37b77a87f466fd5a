'use strict';

const assert = require('node:assert/strict');
const { Cluster, Redis } = require('ioredis');
const { eventually, run, sleep, until } = require('./story');

function connect(story, more = {}) {
  const client = new Redis({ port: story.port, ...more });
  client.on('error', () => {}); // it connects again by itself; without a listener it only complains
  return client;
}

const numbers = (count) => Array.from({ length: count }, (_, n) => n);

run({
  async connect(story) {
    const client = connect(story, { connectionName: 'story' });
    assert.equal(await client.ping(), 'PONG');
    assert.equal(await client.client('GETNAME'), 'story');
    assert.equal(await client.echo('hello'), 'hello');
    assert.match(await client.info(), /redis_version:/);
    assert.equal(await client.select(0), 'OK');
  },

  async data(story) {
    const client = connect(story);
    const binary = Buffer.from([0, 13, 10, 255]);
    assert.equal(await client.set(story.key('a'), binary, 'EX', 1000), 'OK');
    assert.deepEqual(await client.getBuffer(story.key('a')), binary);
    assert.equal(await client.hset(story.key('h'), { f: 1, g: 'two' }), 2);
    assert.deepEqual({ ...(await client.hgetall(story.key('h'))) }, { f: '1', g: 'two' });
    assert.equal(await client.zadd(story.key('z'), 1, 'one', 2.5, 'two'), 2);
    assert.deepEqual((await client.zrange(story.key('z'), 0, -1, 'WITHSCORES')).flat().map(String), ['one', '1', 'two', '2.5']);
    const names = numbers(100).map((n) => story.key(n));
    assert.equal(await client.mset(Object.fromEntries(names.map((name) => [name, name]))), 'OK');
    assert.deepEqual(await client.mget(...names, story.key('none')), [...names, null]);
    await assert.rejects(client.incr(story.key('h')), /WRONGTYPE/);
    assert.equal(await client.del(names), 100);
  },

  async pipeline(story) {
    const pipe = connect(story).pipeline();
    for (const n of numbers(100)) pipe.set(story.key(n), n).incr(story.key(n));
    pipe.lpush(story.key(1), 'x').get(story.key(1));
    const answers = await pipe.exec();
    assert.deepEqual(answers.slice(0, 200), numbers(100).flatMap((n) => [[null, 'OK'], [null, n + 1]]));
    assert.match(answers[200][0].message, /WRONGTYPE/);
    assert.deepEqual(answers[201], [null, '2']);
  },

  async transaction(story) {
    const client = connect(story);
    const key = story.tagged('a');
    assert.deepEqual(await client.multi().set(key, 1).incr(key).get(story.tagged('none')).exec(), [
      [null, 'OK'],
      [null, 2],
      [null, null],
    ]);
    const mixed = await client.multi().set(key, 'x').incr(key).get(key).exec();
    assert.match(mixed[1][0].message, /not an integer/);
    assert.deepEqual(mixed[2], [null, 'x']);
    await assert.rejects(client.multi().set(key, 'y').call('GET').exec(), /EXECABORT/);
    assert.equal(await client.get(key), 'x');
  },

  async watch(story) {
    const [client, other] = [connect(story), connect(story)];
    const key = story.tagged('n');
    await client.watch(key);
    await other.set(key, 5);
    assert.equal(await client.multi().set(key, 1).exec(), null);
    await client.watch(key);
    assert.deepEqual(await client.multi().incr(key).exec(), [[null, 6]]);
  },

  async transaction_over_shards(story) {
    const multi = connect(story).multi();
    for (const n of numbers(100)) multi.incr(story.key(n));
    assert.deepEqual(await multi.exec(), numbers(100).map(() => [null, 1]));
  },

  async pubsub(story) {
    const [client, listener] = [connect(story), connect(story)];
    const channels = numbers(10).map((n) => story.key(`channel${n}`));
    const seen = [];
    listener.on('message', (channel, data) => seen.push([channel, data]));
    listener.on('pmessage', (pattern, channel, data) => seen.push([pattern, channel, data]));
    assert.equal(await listener.subscribe(...channels), 10);
    assert.equal(await listener.psubscribe(story.key('*9')), 11);
    for (const [n, channel] of channels.entries()) assert.equal(await client.publish(channel, n), n === 9 ? 2 : 1);
    await eventually(() => seen.length === 11);
    assert.deepEqual(new Set(seen.map((message) => message.join(' '))).size, 11);
    assert.equal(await listener.unsubscribe(channels[0]), 10);
    assert.equal(await client.publish(channels[0], 'x'), 0);
  },

  async blocking(story) {
    const [client, other] = [connect(story), connect(story)];
    assert.equal(await client.blpop(story.tagged('q'), 0.1), null);
    const popped = client.blpop(story.tagged('none'), story.tagged('q'), 20);
    await sleep(100);
    await other.rpush(story.tagged('q'), 'later');
    assert.deepEqual(await popped, [story.tagged('q'), 'later']);
    const least = client.bzpopmin(story.tagged('z'), 20);
    await other.zadd(story.tagged('z'), 1.5, 'm');
    assert.deepEqual((await least).map(String), [story.tagged('z'), 'm', '1.5']);
    const read = client.xread('BLOCK', 20_000, 'STREAMS', story.tagged('x'), '$');
    const found = await until(read, () => other.xadd(story.tagged('x'), '*', 'f', 'v'));
    assert.match(JSON.stringify(found), /"f","v"/);
  },

  async scan(story) {
    const client = connect(story);
    const names = numbers(500).map((n) => story.key(n));
    await client.mset(Object.fromEntries(names.map((name) => [name, 'v'])));
    const found = new Set();
    for await (const some of client.scanStream({ match: story.key('*'), count: 20 })) some.forEach((name) => found.add(name));
    assert.deepEqual(found, new Set(names));
  },

  async keyspace(story) {
    const client = connect(story);
    await client.mset(Object.fromEntries(numbers(50).map((n) => [story.key(n), n])));
    assert.equal((await client.keys(story.key('*'))).length, 50);
    assert.ok((await client.dbsize()) >= 50);
    assert.equal(await client.flushdb(), 'OK');
    assert.equal(await client.dbsize(), 0);
  },

  async scripts(story) {
    const client = connect(story);
    assert.equal(await client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, story.key('n'), 5), 5);
  },

  async script_cache(story) {
    const client = connect(story);
    // It sends EVALSHA, and EVAL where the answer is NOSCRIPT.
    client.defineCommand('plus', { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    for (const n of numbers(40)) assert.equal(await client.plus(story.key(n), n), n);
    const pipe = client.pipeline();
    for (const n of numbers(40)) pipe.plus(story.key(n), 1);
    assert.deepEqual(await pipe.exec(), numbers(40).map((n) => [null, n + 1]));
    const digest = await client.script('LOAD', 'return ARGV[1]');
    for (const n of numbers(40)) assert.equal(await client.evalsha(digest, 1, story.key(n), n), String(n));
  },

  async script_without_keys(story) {
    assert.equal(await connect(story).eval('return 7', 0), 7);
  },

  async streams(story) {
    const client = connect(story);
    const key = story.key('x');
    const id = await client.xadd(key, '*', 'f', 'v');
    assert.equal(await client.xgroup('CREATE', key, 'g', '0'), 'OK');
    const read = await client.xreadgroup('GROUP', 'g', 'one', 'COUNT', 5, 'STREAMS', key, '>');
    assert.deepEqual(JSON.parse(JSON.stringify(read)).flat(2).flat(), [key, id, ['f', 'v']]);
    assert.equal(await client.xack(key, 'g', id), 1);
  },

  async databases(story) {
    const [client, other] = [connect(story), connect(story, { db: 3 })];
    await client.set(story.key('a'), 'in 0');
    assert.equal(await other.get(story.key('a')), null);
    await other.set(story.key('a'), 'in 3');
    assert.equal(await client.get(story.key('a')), 'in 0');
  },

  /** To this client the proxy is one node with all slots. */
  async cluster(story) {
    const client = new Cluster([{ host: '127.0.0.1', port: story.port }]);
    const names = numbers(100).map((n) => story.key(n));
    assert.deepEqual(new Set(await Promise.all(names.map((name) => client.set(name, name)))), new Set(['OK']));
    assert.deepEqual(await Promise.all(names.map((name) => client.get(name))), names);
    assert.equal(await client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, story.key('n'), 5), 5);
    assert.deepEqual(await client.multi().set(story.tagged('a'), 1).incr(story.tagged('a')).exec(), [[null, 'OK'], [null, 2]]);
  },

  failover(story) {
    const client = connect(story);
    return story.goOn((key, value) => client.set(key, value), (key) => client.get(key));
  },

  restart(story) {
    const client = connect(story);
    return story.comeBack((key, value) => client.set(key, value), (key) => client.get(key));
  },
});
