// SPDX-License-Identifier: MIT
//
// The Go side of the benchmarks of scale: echoload's server, million.c, sleepers.c, recycle.c.
package main

import (
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// status is proc_status() of proc.h for this process.
func status(field string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		die(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, field) {
			value, _ := strconv.ParseFloat(strings.Fields(line)[1], 64)
			return value
		}
	}
	return 0
}

func usage() (cpu time.Duration, faults int64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		die(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Minflt
}

// echo is examples/echo_threads.c: a goroutine per client.
func echo(clients int) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		die(err)
	}
	fmt.Printf("listening on %v\n", listener.Addr())
	var done sync.WaitGroup
	var errors uint32
	done.Add(clients)
	for i := 0; i < clients; i++ {
		client, err := listener.Accept()
		if err != nil {
			die(err)
		}
		go func() {
			// not 16384 as on a C stack, where what is not used costs nothing
			buffer := make([]byte, 4096)
			for {
				got, err := client.Read(buffer)
				if got > 0 {
					_, err = client.Write(buffer[:got])
				}
				if err != nil {
					if err != io.EOF {
						atomic.AddUint32(&errors, 1)
					}
					break
				}
			}
			client.Close()
			done.Done()
		}()
	}
	done.Wait()
	if errors != 0 {
		os.Exit(1)
	}
}

func million(n int) {
	var m sync.Mutex
	var done sync.WaitGroup
	condGo, changed := sync.NewCond(&m), sync.NewCond(&m)
	parked, awake, open := 0, 0, false
	before, tables := status("VmRSS:"), status("VmPTE:")
	cpu, _ := usage()
	start := time.Now()
	lap := start
	phase := func(name string) {
		now := time.Now()
		report(name, now.Sub(lap).Seconds(), "s")
		lap = now
	}
	done.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			m.Lock()
			if parked++; parked == n {
				changed.Signal()
			}
			for !open {
				condGo.Wait()
			}
			if awake++; awake == n {
				changed.Signal()
			}
			m.Unlock()
			done.Done()
		}()
	}
	wait := func(count *int) {
		m.Lock()
		for *count != n {
			changed.Wait()
		}
		m.Unlock()
	}
	wait(&parked)
	phase("create_s")
	rss := status("VmRSS:") - before
	tables = status("VmPTE:") - tables
	m.Lock()
	open = true
	condGo.Broadcast()
	m.Unlock()
	wait(&awake)
	phase("wake_s")
	done.Wait()
	phase("join_s")
	took := time.Since(start)
	end, _ := usage()
	report("seconds", took.Seconds(), "s")
	report("threads", float64(n), "goroutines")
	report("bytes", rss*1024/float64(n), "bytes/goroutine")
	report("kept", (status("VmRSS:")-before)*1024/float64(n), "bytes/goroutine")
	report("tables", tables*1024/float64(n), "bytes/goroutine")
	report("ns", float64(took.Nanoseconds())/float64(n), "ns/goroutine")
	report("cpu_raw_ns", float64((end-cpu).Nanoseconds())/float64(n), "ns/goroutine")
}

// histogram is that of histogram.h.
type histogram [64 * 60]uint64

func (h *histogram) add(v time.Duration) {
	ns := uint64(v)
	bucket := ns
	if ns >= 64 {
		shift := uint64(57 - bits.LeadingZeros64(ns))
		bucket = shift*64 + ns>>shift
	}
	atomic.AddUint64(&h[bucket], 1)
}

func (h *histogram) total() (sum uint64) {
	for i := range h {
		sum += atomic.LoadUint64(&h[i])
	}
	return
}

func (h *histogram) quantile(share float64) float64 {
	below, sum := uint64(float64(h.total())*share), uint64(0)
	for i := range h {
		if sum += atomic.LoadUint64(&h[i]); sum > below {
			if i < 64 {
				return float64(i)
			}
			shift := i/64 - 1
			return float64(uint64(i-shift*64) << shift)
		}
	}
	return 0
}

func sleepers(n int, budget time.Duration) {
	var late histogram
	var record, stop uint32
	var started, done sync.WaitGroup
	started.Add(n)
	done.Add(n)
	for i := 0; i < n; i++ {
		go func(x uint64) {
			started.Done()
			for atomic.LoadUint32(&stop) == 0 {
				x = work(x, 1)
				ns := time.Duration(1000000 + (x>>20)%999000001)
				begin := time.Now()
				time.Sleep(ns)
				took := time.Since(begin)
				if atomic.LoadUint32(&record) != 0 {
					if took < ns {
						took = ns
					}
					late.add(took - ns)
				}
			}
			done.Done()
		}(88172645463325252 ^ uint64(i+1)*0x9e3779b97f4a7c15)
	}
	started.Wait()
	time.Sleep(1500 * time.Millisecond)
	start := time.Now()
	cpu, _ := usage()
	atomic.StoreUint32(&record, 1)
	time.Sleep(budget)
	atomic.StoreUint32(&record, 0)
	end, _ := usage()
	wall := time.Since(start).Seconds()
	report("p50_us", late.quantile(0.5)/1e3, "us")
	report("p99_us", late.quantile(0.99)/1e3, "us")
	report("cpu", 100*(end-cpu).Seconds()/wall, "%")
	report("wakes", float64(late.total())/wall, "wakes/s")
	report("rss_mb", status("VmRSS:")/1024, "MB")
	report("kthreads", status("Threads:"), "threads")
	atomic.StoreUint32(&stop, 1)
	done.Wait()
}

func recycle(n, alive int) {
	type slot struct{ let, ended chan bool }
	slots := make([]slot, alive)
	first := 0.0
	start := time.Now()
	end := func(s *slot) {
		s.let <- true
		<-s.ended
	}
	for i := 0; i < n; i++ {
		s := &slots[i%alive]
		if i >= alive {
			end(s)
		}
		if i == 10*alive {
			first = status("VmRSS:")
		}
		let, ended := make(chan bool), make(chan bool)
		s.let, s.ended = let, ended
		go func() {
			text := fmt.Sprintf("slot %p", let)
			<-let
			ended <- text != ""
		}()
	}
	last := status("VmRSS:")
	for i := range slots {
		end(&slots[i])
	}
	report("ns", float64(time.Since(start).Nanoseconds())/float64(n), "ns/goroutine")
	report("first_mb", first/1024, "MB")
	report("last_mb", last/1024, "MB")
	report("growth", last/first, "x")
}
