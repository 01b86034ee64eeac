// SPDX-License-Identifier: MIT
// A Rust program that uses the standard library's threads and checks itself: spawn and join, panics, Mutex,
// Condvar, RwLock, mpsc, Barrier, Once, park, scoped threads, thread locals, TCP. Exit status 0 and "ok" mean
// that all was right. The standard library waits with raw futex system calls.
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, Once, RwLock};
use std::thread;
use std::time::{Duration, Instant};

static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Noisy(usize);

impl Drop for Noisy {
    fn drop(&mut self) {
        DROPPED.fetch_add(self.0, Ordering::SeqCst);
    }
}

thread_local! {
    static LOCAL: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static NOISY: RefCell<Option<Noisy>> = const { RefCell::new(None) };
    static COUNT: Cell<usize> = const { Cell::new(7) };
}

fn mutexes() {
    let total = Arc::new(Mutex::new(0usize));
    let threads: Vec<_> = (0..100)
        .map(|i| {
            let total = Arc::clone(&total);
            thread::Builder::new()
                .name(format!("mutex-{i}"))
                .spawn(move || {
                    COUNT.with(|c| {
                        assert_eq!(c.get(), 7);
                        c.set(i)
                    });
                    NOISY.with(|n| *n.borrow_mut() = Some(Noisy(1)));
                    for k in 0..500 {
                        let mut t = total.lock().unwrap();
                        *t += 1;
                        if k % 100 == 0 {
                            thread::yield_now();
                        }
                        drop(t);
                        LOCAL.with(|l| l.borrow_mut().push(k * i));
                    }
                    assert_eq!(thread::current().name(), Some(format!("mutex-{i}").as_str()));
                    COUNT.with(|c| assert_eq!(c.get(), i));
                    LOCAL.with(|l| l.borrow().iter().sum::<usize>())
                })
                .unwrap()
        })
        .collect();
    for (i, t) in threads.into_iter().enumerate() {
        assert_eq!(t.join().unwrap(), i * 499 * 500 / 2);
    }
    assert_eq!(*total.lock().unwrap(), 50_000);
    assert_eq!(DROPPED.load(Ordering::SeqCst), 100);
}

fn condvars() {
    let shared = Arc::new((Mutex::new(0usize), Condvar::new()));
    let n = 30;
    let threads: Vec<_> = (0..n)
        .map(|i| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (m, c) = &*shared;
                for r in 0..20 {
                    let mut turn = m.lock().unwrap();
                    while *turn != r * n + i {
                        turn = c.wait(turn).unwrap();
                    }
                    *turn += 1;
                    c.notify_all();
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    let (m, c) = &*shared;
    let turn = m.lock().unwrap();
    assert_eq!(*turn, 20 * n);
    let t0 = Instant::now();
    let (_turn, r) = c.wait_timeout_while(turn, Duration::from_millis(30), |_| true).unwrap();
    assert!(r.timed_out());
    assert!(t0.elapsed() >= Duration::from_millis(30));
}

fn channels() {
    let (tx, rx) = mpsc::channel::<(usize, usize)>();
    for i in 0..50 {
        let tx = tx.clone();
        thread::spawn(move || {
            for k in 0..200 {
                tx.send((i, k)).unwrap();
            }
        });
    }
    drop(tx);
    let mut next = [0usize; 50];
    for (i, k) in rx {
        assert_eq!(next[i], k);
        next[i] += 1;
    }
    assert!(next.iter().all(|&n| n == 200));

    let (tx, rx) = mpsc::sync_channel::<usize>(0);
    let t = thread::spawn(move || {
        for k in 0..500 {
            tx.send(k).unwrap();
        }
    });
    for k in 0..500 {
        assert_eq!(rx.recv().unwrap(), k);
    }
    t.join().unwrap();
    assert!(rx.recv_timeout(Duration::from_millis(5)).is_err());
}

fn scoped() {
    let mut data: Vec<u64> = (0..100_000).collect();
    let barrier = Barrier::new(8);
    let leaders = AtomicUsize::new(0);
    thread::scope(|s| {
        for part in data.chunks_mut(12_500) {
            let (barrier, leaders) = (&barrier, &leaders);
            s.spawn(move || {
                for x in part.iter_mut() {
                    *x = x.wrapping_mul(*x);
                }
                if barrier.wait().is_leader() {
                    leaders.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(leaders.load(Ordering::SeqCst), 1);
    assert!(data.iter().enumerate().all(|(i, &x)| x == (i as u64) * (i as u64)));

    let lock = RwLock::new((0u64, 0u64));
    thread::scope(|s| {
        for i in 0..20 {
            let lock = &lock;
            s.spawn(move || {
                for _ in 0..200 {
                    if i % 5 == 0 {
                        let mut g = lock.write().unwrap();
                        g.0 += 1;
                        thread::yield_now();
                        g.1 += 1;
                    } else {
                        let g = lock.read().unwrap();
                        assert_eq!(g.0, g.1);
                    }
                }
            });
        }
    });
    assert_eq!(lock.read().unwrap().0, 800);
}

fn panics_once_and_park() {
    std::panic::set_hook(Box::new(|_| {}));
    let poisoned = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..20)
        .map(|i| {
            let p = Arc::clone(&poisoned);
            thread::spawn(move || {
                let _guard = if i == 0 { Some(p.lock().unwrap_or_else(|e| e.into_inner())) } else { None };
                if i % 2 == 0 {
                    panic!("number {i}");
                }
                i
            })
        })
        .collect();
    for (i, t) in threads.into_iter().enumerate() {
        match t.join() {
            Ok(n) => assert!(n == i && i % 2 == 1),
            Err(e) => assert_eq!(*e.downcast::<String>().unwrap(), format!("number {i}")),
        }
    }
    assert!(poisoned.is_poisoned());
    let _ = std::panic::take_hook();

    static ONCE: Once = Once::new();
    let calls = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..30 {
            s.spawn(|| {
                ONCE.call_once(|| {
                    thread::sleep(Duration::from_millis(2));
                    calls.fetch_add(1, Ordering::SeqCst);
                });
                assert_eq!(calls.load(Ordering::SeqCst), 1);
            });
        }
    });
    let flag = Arc::new(AtomicUsize::new(0));
    let f = Arc::clone(&flag);
    let parked = thread::spawn(move || {
        while f.load(Ordering::SeqCst) == 0 {
            thread::park();
        }
    });
    thread::sleep(Duration::from_millis(2));
    flag.store(1, Ordering::SeqCst);
    parked.thread().unpark();
    parked.join().unwrap();
}

fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients = 20;
    let server = thread::spawn(move || {
        let mut handlers = Vec::new();
        for _ in 0..clients {
            let (mut s, _) = listener.accept().unwrap();
            handlers.push(thread::spawn(move || {
                let mut buf = [0u8; 4096];
                loop {
                    let n = s.read(&mut buf).unwrap();
                    if n == 0 {
                        break;
                    }
                    s.write_all(&buf[..n]).unwrap();
                }
            }));
        }
        for h in handlers {
            h.join().unwrap();
        }
    });
    let threads: Vec<_> = (0..clients)
        .map(|i| {
            thread::spawn(move || {
                let mut s = TcpStream::connect(address).unwrap();
                for k in 0..20usize {
                    let data = vec![(i + k) as u8; 1 + k * 500];
                    s.write_all(&data).unwrap();
                    let mut back = vec![0u8; data.len()];
                    s.read_exact(&mut back).unwrap();
                    assert_eq!(back, data);
                }
                s.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                let e = s.read(&mut [0u8; 1]).unwrap_err();
                assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    server.join().unwrap();
}

fn main() {
    mutexes();
    condvars();
    channels();
    scoped();
    panics_once_and_park();
    sockets();
    println!("ok");
}
