/* SPDX-License-Identifier: MIT
 * Percentiles of many times, in fixed memory.
 *
 * Model:     64 buckets to each power of two of nanoseconds, so a percentile is true to 1.6 %.
 * Ordering:  counts are relaxed atomics: any thread may add; who reads has joined them, or takes a
 * snapshot that may lack the last few.
 */
#ifndef WEFT_BENCH_HISTOGRAM_H
#define WEFT_BENCH_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HIST_SUB 64u

struct histogram {
	atomic_ulong count[HIST_SUB * 60];
};

static inline unsigned hist_bucket(uint64_t ns)
{
	unsigned shift;

	if (ns < HIST_SUB)
		return (unsigned)ns;
	shift = 57 - (unsigned)__builtin_clzll(ns);	/* leaves the seven highest bits */
	return shift * HIST_SUB + (unsigned)(ns >> shift);
}

static inline double hist_value(unsigned bucket)
{
	unsigned shift = bucket < HIST_SUB ? 0 : bucket / HIST_SUB - 1;

	return (double)((uint64_t)(bucket - shift * HIST_SUB) << shift);
}

static inline void hist_add(struct histogram *h, uint64_t ns)
{
	atomic_fetch_add_explicit(&h->count[hist_bucket(ns)], 1, memory_order_relaxed);
}

/* For a thread that is alone with it: no locked instruction. */
static inline void hist_add_alone(struct histogram *h, uint64_t ns)
{
	atomic_ulong *c = &h->count[hist_bucket(ns)];

	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static inline unsigned long hist_total(struct histogram *h)
{
	unsigned long sum = 0;

	for (unsigned i = 0; i < HIST_SUB * 60; i++)
		sum += atomic_load_explicit(&h->count[i], memory_order_relaxed);
	return sum;
}

/* The value that `share` (0 to 1) of all are at most; 0 when there are none. */
static inline double hist_quantile(struct histogram *h, double share)
{
	unsigned long below = (unsigned long)((double)hist_total(h) * share), sum = 0;

	for (unsigned i = 0; i < HIST_SUB * 60; i++) {
		sum += atomic_load_explicit(&h->count[i], memory_order_relaxed);
		if (sum > below)
			return hist_value(i);
	}
	return 0;
}

#endif
