// SPDX-License-Identifier: MIT
// 500 Java threads with locks, interrupts, parking, monitors, a thread pool, and garbage collection under load.
// Verifies itself: prints "ok: ..." and ends with status 0.
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;

public class JavaThreads {
	static final int THREADS = 500;
	static volatile Object sink;

	static void check(boolean ok, String what) {
		if (!ok)
			throw new AssertionError(what);
	}

	interface Body { void run(int i) throws Exception; }

	/** Runs body in n threads at once; fails if one of them failed. */
	static Thread[] start(int n, Throwable[] failed, Body body) {
		Thread[] t = new Thread[n];
		for (int i = 0; i < n; i++) {
			int me = i;
			t[i] = new Thread(() -> {
				try {
					body.run(me);
				} catch (Throwable e) {
					synchronized (failed) { failed[0] = e; }
				}
			}, "t" + i);
			t[i].start();
		}
		return t;
	}

	static void join(Thread[] t, Throwable[] failed) throws Exception {
		for (Thread x : t) {
			x.join(60000);
			check(!x.isAlive(), x + " does not end");
		}
		if (failed[0] != null)
			throw new Exception(failed[0]);
	}

	/** Garbage of all ages, so that collections move objects while everybody runs; each tree is verified after. */
	static int[][] garbage(int seed) {
		int[][] a = new int[16][];
		for (int i = 0; i < a.length; i++) {
			a[i] = new int[64 + (seed * 7 + i) % 200];
			for (int j = 0; j < a[i].length; j++)
				a[i][j] = seed + i * j;
		}
		return a;
	}

	static void verify(int[][] a, int seed) {
		for (int i = 0; i < a.length; i++)
			for (int j = 0; j < a[i].length; j++)
				check(a[i][j] == seed + i * j, "an object changed");
	}

	static void locksAndGc() throws Exception {
		final ReentrantLock lock = new ReentrantLock();
		final Object monitor = new Object();
		final ReadWriteLock rw = new ReentrantReadWriteLock();
		final long[] counts = new long[3];
		final Map<Integer, Integer> shared = new HashMap<>();
		final LongAdder sum = new LongAdder();
		final CountDownLatch all = new CountDownLatch(THREADS);
		final int rounds = 100;
		Throwable[] failed = new Throwable[1];

		join(start(THREADS, failed, me -> {
			all.countDown();
			all.await();
			int[][] kept = garbage(me);
			for (int r = 0; r < rounds; r++) {
				lock.lock();
				try { counts[0]++; } finally { lock.unlock(); }
				synchronized (monitor) { counts[1]++; }
				if (r % 8 == 0) {
					rw.writeLock().lock();
					try { counts[2]++; shared.put(me, r); } finally { rw.writeLock().unlock(); }
				} else {
					rw.readLock().lock();
					try {
						check(shared.getOrDefault(me, -1) == r / 8 * 8, "map");
					} finally {
						rw.readLock().unlock();
					}
				}
				int[][] g = garbage(me + r);
				sink = g;
				if (r % 10 == 0) {
					verify(kept, me + (r == 0 ? 0 : r - 10));
					kept = garbage(me + r);
				}
				verify(g, me + r);
				sum.add(r);
			}
		}), failed);
		check(counts[0] == THREADS * rounds, "lock " + counts[0]);
		check(counts[1] == THREADS * rounds, "monitor " + counts[1]);
		check(counts[2] == THREADS * ((rounds + 7) / 8), "write lock " + counts[2]);
		check(sum.sum() == (long)THREADS * rounds * (rounds - 1) / 2, "adder");
	}

	/** Interrupt threads in every way of waiting, and in a loop. */
	static void interrupts() throws Exception {
		final AtomicInteger interrupted = new AtomicInteger();
		final CountDownLatch ready = new CountDownLatch(THREADS);
		final ReentrantLock held = new ReentrantLock();
		final SynchronousQueue<Object> queue = new SynchronousQueue<>();
		Throwable[] failed = new Throwable[1];

		held.lock();
		Thread[] t = start(THREADS, failed, me -> {
			Object mine = new Object();
			ready.countDown();
			try {
				switch (me % 25 == 24 ? 5 : me % 5) {
				case 0: Thread.sleep(600000); break;
				case 1: synchronized (mine) { mine.wait(); } break;
				case 2: held.lockInterruptibly(); break;
				case 3: queue.take(); break;
				case 4:
					while (!Thread.currentThread().isInterrupted())
						LockSupport.park(mine);
					throw new InterruptedException();
				default:
					while (!Thread.interrupted())
						sink = new byte[100];
					throw new InterruptedException();
				}
				throw new AssertionError("not interrupted");
			} catch (InterruptedException e) {
				interrupted.incrementAndGet();
			}
		});
		ready.await();
		for (Thread x : t)
			x.interrupt();
		join(t, failed);
		held.unlock();
		check(interrupted.get() == THREADS, "interrupted " + interrupted.get());
	}

	/** Monitors with wait and notify, and faults that the JVM turns into exceptions. */
	static void pingPongAndFaults() throws Exception {
		final Object m = new Object();
		final int[] turn = { 0 };
		final AtomicInteger faults = new AtomicInteger();
		final int n = 20, rounds = 50;
		Throwable[] failed = new Throwable[1];

		join(start(n, failed, me -> {
			int zero = me - me;
			for (int r = 0; r < rounds; r++) {
				synchronized (m) {
					while (turn[0] % n != me)
						m.wait();
					turn[0]++;
					m.notifyAll();
				}
				for (int k = 0; k < 20; k++) {
					try {
						Object o = k % 2 == 0 ? null : me;
						sink = o.toString();
					} catch (NullPointerException e) {
						faults.incrementAndGet();
					}
					try {
						sink = me / zero;
					} catch (ArithmeticException e) {
						faults.incrementAndGet();
					}
				}
			}
		}), failed);
		check(turn[0] == n * rounds, "turns " + turn[0]);
		check(faults.get() == n * rounds * 30, "faults " + faults.get());
	}

	static int depth(int n) {
		return 1 + depth(n + 1);
	}

	/** Stack overflows, caught, on several threads: the JVM's own guard pages. */
	static void overflows() throws Exception {
		final AtomicInteger caught = new AtomicInteger();
		Throwable[] failed = new Throwable[1];

		join(start(16, failed, me -> {
			for (int i = 0; i < 5; i++) {
				try {
					depth(0);
				} catch (StackOverflowError e) {
					caught.incrementAndGet();
				}
			}
		}), failed);
		check(caught.get() == 80, "overflows " + caught.get());
	}

	static void pools() throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(32);
		List<Future<Long>> f = new ArrayList<>();
		for (int i = 0; i < 2000; i++) {
			long n = i;
			f.add(pool.submit(() -> {
				long s = 0;
				for (long k = 0; k <= n; k++)
					s += k;
				return s;
			}));
		}
		for (int i = 0; i < 2000; i++)
			check(f.get(i).get() == (long)i * (i + 1) / 2, "future");
		pool.shutdown();
		check(pool.awaitTermination(30, TimeUnit.SECONDS), "pool does not end");
		long par = java.util.stream.LongStream.rangeClosed(1, 2000000).parallel().map(x -> x ^ 1).sum();
		long seq = java.util.stream.LongStream.rangeClosed(1, 2000000).map(x -> x ^ 1).sum();
		check(par == seq, "parallel stream");
		ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
		CountDownLatch ticks = new CountDownLatch(20);
		timer.scheduleAtFixedRate(ticks::countDown, 1, 1, TimeUnit.MILLISECONDS);
		check(ticks.await(30, TimeUnit.SECONDS), "ticks");
		timer.shutdownNow();
	}

	public static void main(String[] args) throws Exception {
		Thread gc = new Thread(() -> {
			while (!Thread.interrupted()) {
				System.gc();
				try {
					Thread.sleep(50);
				} catch (InterruptedException e) {
					return;
				}
			}
		});
		gc.setDaemon(true);
		gc.start();
		long t0 = System.nanoTime();
		locksAndGc();
		long t1 = System.nanoTime();
		interrupts();
		long t2 = System.nanoTime();
		pingPongAndFaults();
		long t3 = System.nanoTime();
		overflows();
		long t4 = System.nanoTime();
		pools();
		long t5 = System.nanoTime();
		gc.interrupt();
		long bits = 0;
		for (java.lang.management.GarbageCollectorMXBean b :
		     java.lang.management.ManagementFactory.getGarbageCollectorMXBeans())
			bits += b.getCollectionCount();
		check(bits > 0, "no collection ran");
		System.out.printf("ok: 500 threads, %d collections; locks %d interrupts %d turns %d overflows %d pools %d ms%n", bits,
			(t1 - t0) / 1000000, (t2 - t1) / 1000000, (t3 - t2) / 1000000, (t4 - t3) / 1000000,
			(t5 - t4) / 1000000);
	}
}
