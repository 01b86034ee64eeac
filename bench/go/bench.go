// SPDX-License-Identifier: MIT
//
// The Go side of the benchmarks: the same measurements as the C programs beside it, with
// goroutines. bench.go NAME [-t ms] [-n threads or batch] [-w steps] [-o operation] [-p file]
package main

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	blockSize    = 4096
	computeSteps = 512
	computers    = 2
)

func option(name, def string) string {
	for i := 2; i+1 < len(os.Args); i++ {
		if os.Args[i] == name {
			return os.Args[i+1]
		}
	}
	return def
}

func number(name string, def int) int {
	n, err := strconv.Atoi(option(name, strconv.Itoa(def)))
	if err != nil {
		die(err)
	}
	return n
}

func die(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func report(name string, value float64, unit string) {
	fmt.Printf("%s %.6g %s\n", name, value, unit)
}

// measure is measure() of bench.h.
func measure(run func(n int) time.Duration, n int, budget time.Duration) float64 {
	for {
		took := run(n)
		if took >= budget/2 {
			return float64(took.Nanoseconds()) / float64(n)
		}
		more := n * 50
		if took > 0 && int(float64(n)*float64(budget)/float64(took)) < more {
			more = int(float64(n) * float64(budget) / float64(took))
		}
		if more <= n {
			more = n + 1
		}
		n = more
	}
}

// work is work() of bench.h.
func work(x uint64, steps int) uint64 {
	for ; steps > 0; steps-- {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

func yield(n int) time.Duration {
	var gate, done sync.WaitGroup
	var started, ended [2]time.Time
	gate.Add(2)
	done.Add(2)
	for i := 0; i < 2; i++ {
		go func(me int) {
			gate.Done()
			gate.Wait()
			started[me] = time.Now()
			for j := (n + 1) / 2; j > 0; j-- {
				runtime.Gosched()
			}
			ended[me] = time.Now()
			done.Done()
		}(i)
	}
	done.Wait()
	if started[1].Before(started[0]) {
		started[0] = started[1]
	}
	if ended[1].After(ended[0]) {
		ended[0] = ended[1]
	}
	return ended[0].Sub(started[0])
}

func spawn(batch int) func(n int) time.Duration {
	return func(n int) time.Duration {
		var done sync.WaitGroup
		start := time.Now()
		spawned := 0
		for spawned < n {
			done.Add(batch)
			for i := 0; i < batch; i++ {
				go done.Done()
			}
			done.Wait()
			spawned += batch
		}
		return time.Duration(float64(time.Since(start)) * float64(n) / float64(spawned))
	}
}

var counter uint64

func mutex(n int) time.Duration {
	var m sync.Mutex
	start := time.Now()
	for i := 0; i < n; i++ {
		m.Lock()
		counter++
		m.Unlock()
	}
	return time.Since(start)
}

// pingpong uses sync.Cond as pingpong.c uses pthread_cond_t.
func pingpong(n int) time.Duration {
	var m sync.Mutex
	cond := [2]*sync.Cond{sync.NewCond(&m), sync.NewCond(&m)}
	var done sync.WaitGroup
	turn := 0
	start := time.Now()
	done.Add(2)
	for i := 0; i < 2; i++ {
		go func(me int) {
			for j := 0; j < n; j++ {
				m.Lock()
				for turn != me {
					cond[me].Wait()
				}
				turn = 1 - me
				cond[1-me].Signal()
				m.Unlock()
			}
			done.Done()
		}(i)
	}
	done.Wait()
	return time.Since(start)
}

// pingpongChan is what a Go programmer would write: two unbuffered channels.
func pingpongChan(n int) time.Duration {
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	took := time.Since(start)
	close(there)
	return took
}

type slot struct {
	done uint64
	sum  uint64
	_    [112]byte
}

func contend(n, steps int, budget time.Duration) {
	var m sync.Mutex
	var stop uint32
	var done sync.WaitGroup
	slots := make([]slot, n)
	first := make([]uint64, n)
	done.Add(n)
	for i := range slots {
		go func(s *slot, x uint64) {
			for mine := uint64(1); atomic.LoadUint32(&stop) == 0; mine++ {
				m.Lock()
				counter++
				m.Unlock()
				atomic.StoreUint64(&s.done, mine)
				x = work(x, steps)
			}
			s.sum = x
			done.Done()
		}(&slots[i], uint64(i)+88172645463325252)
	}
	time.Sleep(budget / 8)
	for i := range slots {
		first[i] = atomic.LoadUint64(&slots[i].done)
	}
	start := time.Now()
	time.Sleep(budget)
	var sum, most uint64
	least := ^uint64(0)
	for i := range slots {
		got := atomic.LoadUint64(&slots[i].done) - first[i]
		sum += got
		if got < least {
			least = got
		}
		if got > most {
			most = got
		}
	}
	took := time.Since(start)
	atomic.StoreUint32(&stop, 1)
	done.Wait()
	report("rate", float64(sum)/took.Seconds(), "locks/s")
	report("least", float64(least)*float64(n)/float64(sum+1), "share")
	report("most", float64(most)*float64(n)/float64(sum+1), "share")
}

func total(slots []slot) (sum uint64) {
	for i := range slots {
		sum += atomic.LoadUint64(&slots[i].done)
	}
	return
}

// aligned returns a block that O_DIRECT accepts.
func aligned() []byte {
	b := make([]byte, 2*blockSize)
	skip := blockSize - int(uintptr(unsafe.Pointer(&b[0]))%blockSize)
	return b[skip : skip+blockSize]
}

const (
	fadvRandom   = 1
	fadvDontNeed = 4
)

func fadvise(fd, advice int) {
	_, _, err := syscall.Syscall6(syscall.SYS_FADVISE64, uintptr(fd), 0, 0, uintptr(advice), 0, 0)
	if err != 0 {
		die(err)
	}
}

func blockmix(n int, operation, path string, budget time.Duration) {
	var stop uint32
	var done sync.WaitGroup
	blockers := make([]slot, n)
	compute := make([]slot, computers)
	fd, blocks, reads := -1, uint64(1), uint64(0)
	cold := operation == "cold"
	if operation != "sleep" {
		var st syscall.Stat_t
		var err error
		flags := syscall.O_RDONLY | syscall.O_CLOEXEC
		if !cold {
			flags |= syscall.O_DIRECT
		}
		if fd, err = syscall.Open(path, flags, 0); err != nil {
			die(err)
		}
		if err = syscall.Fstat(fd, &st); err != nil {
			die(err)
		}
		blocks = uint64(st.Size) / blockSize
		if cold {
			fadvise(fd, fadvRandom)
		}
	}
	// nextBlock is next_block() of blockmix.c.
	nextBlock := func(x *uint64) uint64 {
		*x = work(*x, 1)
		if !cold {
			return *x % blocks
		}
		i := (atomic.AddUint64(&reads, 1) - 1) % blocks
		if i == 0 {
			fadvise(fd, fadvDontNeed)
		}
		return i * 40503 % blocks
	}
	done.Add(n + computers)
	for i := range compute {
		go func(s *slot, x uint64) {
			for mine := uint64(1); atomic.LoadUint32(&stop) == 0; mine++ {
				x = work(x, computeSteps)
				atomic.StoreUint64(&s.done, mine)
			}
			s.sum = x
			done.Done()
		}(&compute[i], rand.Uint64()|1)
	}
	for i := range blockers {
		go func(s *slot, x uint64) {
			buf := aligned()
			for mine := uint64(1); atomic.LoadUint32(&stop) == 0; mine++ {
				if operation != "sleep" {
					got, err := syscall.Pread(fd, buf, int64(nextBlock(&x)*blockSize))
					if got != blockSize {
						die(err)
					}
				} else {
					time.Sleep(time.Millisecond)
				}
				atomic.StoreUint64(&s.done, mine)
			}
			done.Done()
		}(&blockers[i], rand.Uint64()|1)
	}
	time.Sleep(budget / 5)
	start := time.Now()
	ops, units := total(blockers), total(compute)
	time.Sleep(budget)
	ops, units = total(blockers)-ops, total(compute)-units
	took := time.Since(start)
	atomic.StoreUint32(&stop, 1)
	done.Wait()
	report("ops", float64(ops)/took.Seconds(), "ops/s")
	report("compute", float64(units)/took.Seconds(), "units/s")
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr,
			"usage: bench NAME [-t ms] [-n count] [-w steps] [-o operation] [-p file]")
		os.Exit(2)
	}
	budget := time.Duration(number("-t", 100)) * time.Millisecond
	switch os.Args[1] {
	case "yield":
		report("ns", measure(yield, 10000, budget), "ns/yield")
	case "spawn":
		n := number("-n", 1)
		report("ns", measure(spawn(n), 2*n+100, budget), "ns/thread")
	case "mutex":
		report("ns", measure(mutex, 10000, budget), "ns/pair")
	case "pingpong":
		report("ns", measure(pingpong, 2000, budget), "ns/round-trip")
	case "pingpong-chan":
		report("ns", measure(pingpongChan, 2000, budget), "ns/round-trip")
	case "contend":
		contend(number("-n", 64), number("-w", 0), budget)
	case "blockmix":
		blockmix(number("-n", 64), option("-o", "sleep"), option("-p", "bench.data"), budget)
	case "echo":
		echo(number("-n", 1))
	case "million":
		million(number("-n", 1000))
	case "sleepers":
		sleepers(number("-n", 100000), budget)
	case "recycle":
		recycle(number("-n", 10000000), number("-a", 1000))
	default:
		fmt.Fprintln(os.Stderr, "bench: no benchmark is called", os.Args[1])
		os.Exit(2)
	}
}
