// BullMQ: queues made of Lua scripts. All keys of a queue share the hash tag in its prefix.
'use strict';

const assert = require('node:assert/strict');
const { Queue, QueueEvents, Worker } = require('bullmq');
const { eventually, run } = require('./story');

run({
  /** Every job that was taken on is done, and nobody is told of a failure; scripts and blocking reads all the way. */
  async failover(story) {
    const options = { connection: { host: '127.0.0.1', port: story.port }, prefix: `{${story.prefix}}` };
    const queue = new Queue('jobs', options);
    const done = new Map();
    const worker = new Worker('jobs', async ({ data: { key, value } }) => void done.set(key, value), { ...options, concurrency: 4 });
    const errors = [];
    for (const one of [queue, worker]) one.on('error', (error) => errors.push(error));
    await story.goOn(
      async (key, value) => {
        await queue.add('plain', { key, value });
        await eventually(() => done.get(key) === value);
      },
      (key) => done.get(key),
    );
    assert.deepEqual(errors, []);
    await worker.close();
    assert.equal(await queue.getJobCountByTypes('wait', 'active', 'failed'), 0);
    await queue.close();
  },

  async queue(story) {
    const options = { connection: { host: '127.0.0.1', port: story.port }, prefix: `{${story.prefix}}` };
    const queue = new Queue('jobs', options);
    const events = new QueueEvents('jobs', options);
    await events.waitUntilReady();
    const done = [];
    const worker = new Worker('jobs', async (job) => {
      if (job.name === 'fails' && job.attemptsMade === 0) throw new Error('once');
      done.push(job.data.n);
      return job.data.n * 2;
    }, { ...options, concurrency: 4 });
    worker.on('error', (error) => console.error(error));
    const jobs = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'plain', data: { n } })));
    const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 30_000)));
    assert.deepEqual(results, jobs.map((_, n) => n * 2));
    const delayed = await queue.add('later', { n: 1000 }, { delay: 300 });
    assert.equal(await delayed.waitUntilFinished(events, 30_000), 2000);
    const retried = await queue.add('fails', { n: 2000 }, { attempts: 3, backoff: 50 });
    assert.equal(await retried.waitUntilFinished(events, 30_000), 4000);
    await eventually(async () => (await queue.getJobCounts('completed')).completed === 52);
    assert.equal(done.length, 52);
    await queue.obliterate({ force: true });
    await worker.close();
    await events.close();
    await queue.close();
  },
});
