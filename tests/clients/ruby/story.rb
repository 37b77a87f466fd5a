# frozen_string_literal: true

# What all programs of this directory share; tests/clients/README.md says what they have in common.

require 'timeout'

ROUND = 20 # requests that must go well after an event before it is answered
KEYS = 200 # keys that are written in turn meanwhile

Story = Struct.new(:port, :prefix, :options) do
  # A key of this run's own.
  def key(name)
    "#{prefix}:#{name}"
  end

  # The same, on one shard with all others of its kind.
  def tagged(name)
    "{#{prefix}}:#{name}"
  end

  def keys(count)
    Array.new(count) { |n| key(n) }
  end

  # Writes one value after another until "end"; none may fail, and all must be there then. Several threads do so with
  # a client each, or with one that they share.
  def go_on(write, read, threads: 4)
    going = true
    others = Array.new(threads - 1) do |thread|
      Thread.new do
        written = {}
        number = 0
        number = step("#{thread}:", number, written, write, read) while going
        check(written, read)
      end
    end
    others.each { |thread| thread.report_on_exception = false }
    written = {}
    number = 0
    round = -> { ROUND.times { number = step('', number, written, write, read) } }
    round.call
    begin_listening
    while (line = heard) != 'end'
      number = step('', number, written, write, read)
      next unless line

      round.call
      puts "after #{line}"
    end
    check(written, read)
    going = false
    others.each(&:join) # what failed in one fails here
  end

  # The proxy is replaced meanwhile: requests may fail until then, and none may afterwards.
  def come_back(write, read)
    write.call(key('first'), '1')
    begin_listening
    number = 0
    while (line = heard) != 'end'
      begin
        write.call(key((number += 1) % KEYS), '1')
      rescue StandardError
        sleep 0.02
      end
      next unless line

      eventually { write.call(key('back'), '1') || true }
      ROUND.times do |n|
        write.call(key("back#{n}"), n.to_s)
        same read.call(key("back#{n}")), n.to_s
      end
      puts "after #{line}"
    end
    same read.call(key('first')), '1'
  end

  private

  def begin_listening
    $stdout.sync = true
    @lines = Thread::Queue.new
    Thread.new do
      $stdin.each_line { |line| @lines << line.strip }
      @lines << 'end'
    end
    puts 'going'
  end

  def heard
    @lines.pop(true)
  rescue ThreadError
    nil
  end

  def step(name, number, written, write, read)
    key = key("#{name}#{number % KEYS}")
    write.call(key, number.to_s)
    written[key] = number.to_s
    other = key("#{name}#{number * 7 % KEYS}")
    same read.call(other), written[other]
    number + 1
  end

  def check(written, read)
    written.each { |key, value| same read.call(key), value }
  end
end

# Compares what was found with what must be.
def same(found, wanted)
  raise "found #{found.inspect}, not #{wanted.inspect}" unless found == wanted
end

def yes(condition)
  same condition ? true : condition, true
end

# It must raise that, with these words in its text.
def fails(kind, words)
  found = yield
rescue StandardError => e
  raise unless e.is_a?(kind) && e.message.include?(words)
else
  raise "#{found.inspect} is no #{kind} that says #{words}"
end

# Waits until the condition holds; an exception is a no.
def eventually(within: 20)
  limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + within
  failure = nil
  while Process.clock_gettime(Process::CLOCK_MONOTONIC) < limit
    begin
      return if yield
    rescue StandardError => e
      failure = e
    end
    sleep 0.01
  end
  raise failure || "not within #{within} s"
end

# Does that in a thread of its own, a tenth of a second from now.
def later
  Thread.new do
    sleep 0.1
    yield
  end
end

# Runs the part that the command line names.
def run(parts)
  port, part, prefix, *options = ARGV
  parts.fetch(part.to_sym).call(Story.new(port.to_i, prefix, options))
end
