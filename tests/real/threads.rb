# SPDX-License-Identifier: MIT
# Ruby's threads: mutex, queue, condition variable, monitor, time-outs, pipes to children, fork. Says "ok" when every sum is right.
require "monitor"
require "socket"
require "timeout"

def check(what, is, want)
  return if is == want
  warn "threads.rb: #{what}: #{is.inspect}, not #{want.inspect}"
  exit! 1
end

# a counter that is read and written in two steps
mutex = Mutex.new
count = 0
50.times.map { Thread.new { 200.times { mutex.synchronize { n = count; Thread.pass if n % 50 == 0; count = n + 1 } } } }.each(&:join)
check "mutex", count, 50 * 200

# producers, a bounded queue, consumers
queue = SizedQueue.new(8)
sums = Queue.new
consumers = 6.times.map { Thread.new { sum = 0; while (n = queue.pop) != :end; sum += n; end; sums << sum } }
producers = 6.times.map { |k| Thread.new { 500.times { |i| queue << k * 1000 + i } } }
producers.each(&:join)
6.times { queue << :end }
consumers.each(&:join)
check "queue", 6.times.sum { sums.pop }, 6.times.sum { |k| 500 * k * 1000 + 499 * 500 / 2 }

# a baton goes round by condition variables
turn, laps, rounds = 0, 0, 40
cond = ConditionVariable.new
5.times.map do |k|
  Thread.new do
    rounds.times do
      mutex.synchronize do
        cond.wait(mutex) until turn == k
        laps += 1
        turn = (turn + 1) % 5
        cond.broadcast
      end
    end
  end
end.each(&:join)
check "condition", laps, 5 * rounds
lock = Monitor.new
check "monitor", Thread.new { lock.synchronize { lock.synchronize { :in } } }.value, :in

# time-outs, of waits and of loops
began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
late = 8.times.map do |k|
  Thread.new do
    Timeout.timeout(0.1) { k.even? ? sleep : (loop { k += 2 }) }
    :missed
  rescue Timeout::Error
    :late
  end
end
check "timeouts", late.map(&:value), [:late] * 8
check "timeouts took long", Process.clock_gettime(Process::CLOCK_MONOTONIC) - began < 20, true
sleeper = Thread.new { sleep }
Thread.pass until sleeper.stop?
sleeper.wakeup
check "wakeup", sleeper.join(20), sleeper
victim = Thread.new { begin; sleep; ensure; Thread.current[:cleaned] = true; end }
Thread.pass until victim.stop?
victim.kill.join
check "kill", victim[:cleaned], true
raised = Thread.new { sleep }.tap { |t| t.report_on_exception = false; Thread.pass until t.stop?; t.raise(ArgumentError, "x") }
check "raise", (raised.value rescue $!.class), ArgumentError

# children by pipe, by several threads at once
out = 8.times.map { |k| Thread.new { IO.popen(["sort", "-n"], "r+") { |p| 100.downto(1) { |i| p.puts i + k }; p.close_write; p.read } } }
out.each_with_index { |t, k| check "popen #{k}", t.value, (1 + k..100 + k).map { |i| "#{i}\n" }.join }
check "backquotes", 4.times.map { |k| Thread.new { `echo #{k}; exit #{k}`.to_i * 10 + $?.exitstatus } }.map(&:value), [0, 11, 22, 33]

# fork out of a thread while others are busy; the child makes threads again
busy = true
load = 3.times.map { Thread.new { n = 0; n += 1 while busy } }
forks = 6.times.map do |k|
  Thread.new do
    r, w = IO.pipe
    pid = fork do
      r.close
      q = Queue.new
      10.times.map { |i| Thread.new { q << i * k } }.each(&:join)
      w.write 10.times.sum { q.pop }.to_s
      w.close
      exit! 7
    end
    w.close
    text = r.read
    r.close
    Process.wait(pid)
    [text, $?.exitstatus]
  end
end
check "fork", forks.map(&:value), 6.times.map { |k| [(45 * k).to_s, 7] }
busy = false
load.each(&:join)

# a server and clients
server = TCPServer.new("127.0.0.1", 0)
accepting = Thread.new { 10.times.map { s = server.accept; Thread.new { while (l = s.gets); s.puts l.upcase; end; s.close } }.each(&:join) }
said = 10.times.map { |k| Thread.new { s = TCPSocket.new("127.0.0.1", server.addr[1]); r = 20.times.map { |i| s.puts "line #{k} #{i}"; s.gets }; s.close; r } }
said.each_with_index { |t, k| check "server #{k}", t.value, 20.times.map { |i| "LINE #{k} #{i}\n" } }
accepting.join

# signals to itself, and locals
got = Queue.new
trap("USR1") { got << 1 }
10.times { Process.kill("USR1", Process.pid); check "signal", Timeout.timeout(20) { got.pop }, 1 }
check "locals", 20.times.map { |k| Thread.new { Thread.current[:k] = k; sleep 0.001; Thread.current[:k] } }.map(&:value), (0..19).to_a
check "gc", 10.times.map { |k| Thread.new { a = (1..2000).map { |i| "x#{i}#{k}" }; GC.start; a.map(&:size).sum } }.map(&:value).uniq.size, 1
puts "ok"
