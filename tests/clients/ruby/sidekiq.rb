# frozen_string_literal: true

# Sidekiq, with a worker in a process of its own, which loads this file too. It was made for one server, but what it
# does with several keys at once can be split.

require 'sidekiq'
require 'sidekiq/api'

port = ENV.fetch('STORY_PORT') { ARGV[0] }
Sidekiq.configure_client { |config| config.redis = { url: "redis://127.0.0.1:#{port}/0" } }
Sidekiq.configure_server do |config|
  config.redis = { url: "redis://127.0.0.1:#{port}/0" }
  config.average_scheduled_poll_interval = 1
end

# Leaves its answer where the one who asked looks for it.
class Job
  include Sidekiq::Worker
  sidekiq_options retry: 3
  sidekiq_retry_in { 0 }

  def perform(answers, number)
    Sidekiq.redis do |redis|
      raise 'not at the first time' if number.negative? && redis.incr("#{answers}:tries") == 1

      redis.hset(answers, number, 2 * number)
    end
  end
end

# Leaves its value under its key.
class Note
  include Sidekiq::Worker
  sidekiq_options retry: false

  def perform(key, value)
    Sidekiq.redis { |redis| redis.set(key, value) }
  end
end

JOBS = 20

# With a worker in a process of its own meanwhile.
def working(story)
  command = ['sidekiq', '-r', File.expand_path(__FILE__), '-q', story.prefix, '-q', 'other', '-c', '2', '-t', '1']
  worker = spawn({ 'STORY_PORT' => story.port.to_s }, *command, in: File::NULL, out: :err)
  yield
ensure
  Process.kill('TERM', worker)
  Process.wait(worker)
end

def queue(story)
  answers = story.key('answers')
  Sidekiq::Client.push_bulk('class' => Job, 'queue' => story.prefix, 'args' => Array.new(JOBS) { |n| [answers, n] })
  to = Job.set(queue: story.prefix)
  to.perform_async(answers, -1) # fails once
  to.perform_in(1, answers, 100)
  same Sidekiq::Queue.new(story.prefix).size, JOBS + 1
  working(story) do
    wanted = [*0...JOBS, -1, 100].to_h { |n| [n.to_s, (2 * n).to_s] }
    found = nil
    Sidekiq.redis { |redis| eventually(within: 45) { (found = redis.hgetall(answers)) == wanted } }
    eventually { Sidekiq::ProcessSet.new.any? { |process| process['queues'].include?(story.prefix) } }
    eventually { Sidekiq::Queue.new(story.prefix).size.zero? }
  rescue StandardError
    puts "answers: #{found}"
    raise
  end
end

# Every job that was taken on is done, also what was on its way to a worker that waits for it.
def failover(story)
  to = Note.set(queue: story.prefix)
  read = ->(key) { Sidekiq.redis { |redis| redis.get(key) } }
  write = lambda do |key, value|
    to.perform_async(key, value)
    eventually { read.call(key) == value }
  end
  working(story) { story.go_on(write, read) }
end

unless Sidekiq.server?
  require_relative 'story'
  run(queue: method(:queue), failover: method(:failover))
end
