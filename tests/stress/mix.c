/* SPDX-License-Identifier: MIT
 * A random mix of everything that threads do to each other, for a given time, each part checking itself.
 *
 * usage: mix [SECONDS [SEED]]
 *
 * Model:   a number of crews work side by side. A crew is a group of threads that run one scene (a queue, a barrier, a
 *          ring of semaphores, …) of random size, then end; its place is taken by the next, of another kind.
 * Seed:    printed at the start; the sequence of scenes depends on it, the interleaving of course does not.
 * Failure: a message with the seed, status 99. A hang is the runner's to notice.
 */
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "check.h"

enum { CREWS = 6, MEMBERS = 24 };

static uint64_t deadline;
static unsigned long seed0;

/* What the threads of one crew share. */
struct crew {
	unsigned seed;
	int n;				/* members */
	int rounds;
	pthread_mutex_t lock;
	pthread_cond_t cond, cond2;
	pthread_rwlock_t rwlock;
	pthread_barrier_t barrier;
	pthread_spinlock_t spin;
	sem_t sem[MEMBERS];
	long a, b;			/* equal whenever nobody is inside */
	int head, tail, ring[8];
	int fd[MEMBERS][2];
	void *gift;
	int next;			/* hands out member numbers */
};

static int number(struct crew *c)
{
	return __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
}

/* Sometimes give up the processor in one way or another. */
static void fidget(unsigned *seed)
{
	switch (rand_r(seed) % 40) {
	case 0: case 1: sched_yield(); break;
	case 2: sleep_ns(rand_r(seed) % 200000); break;
	case 3: spin_ns(rand_r(seed) % 100000); break;
	case 4: free(malloc(rand_r(seed) % 20000)); break;
	}
}

static void *counters(void *arg)
{
	struct crew *c = arg;
	unsigned seed = c->seed + (unsigned)number(c);
	struct timespec t;

	for (int i = 0; i < c->rounds; i++) {
		int how = rand_r(&seed) % 4;

		if (how == 0) {
			while (pthread_mutex_trylock(&c->lock) != 0)
				sched_yield();
		} else if (how == 1) {
			t = in_ns(CLOCK_REALTIME, rand_r(&seed) % 100000);
			while (pthread_mutex_timedlock(&c->lock, &t) == ETIMEDOUT)
				t = in_ns(CLOCK_REALTIME, rand_r(&seed) % 1000000);
		} else {
			CHECK_EQ(pthread_mutex_lock(&c->lock), 0);
		}
		CHECK_EQ(c->a, c->b);
		c->a++;
		fidget(&seed);
		c->b++;
		CHECK_EQ(pthread_mutex_unlock(&c->lock), 0);
		pthread_spin_lock(&c->spin);
		c->ring[0]++;
		pthread_spin_unlock(&c->spin);
	}
	return NULL;
}

static void *readers_writers(void *arg)
{
	struct crew *c = arg;
	unsigned seed = c->seed + (unsigned)number(c);

	for (int i = 0; i < c->rounds; i++) {
		if (rand_r(&seed) % 5 == 0) {
			CHECK_EQ(pthread_rwlock_wrlock(&c->rwlock), 0);
			CHECK_EQ(c->a, c->b);
			c->a++;
			fidget(&seed);
			c->b++;
		} else {
			while (pthread_rwlock_tryrdlock(&c->rwlock) != 0)
				if (rand_r(&seed) % 2) {
					CHECK_EQ(pthread_rwlock_rdlock(&c->rwlock), 0);
					break;
				}
			long a = c->a;

			fidget(&seed);
			CHECK_EQ(a, c->b);
		}
		CHECK_EQ(pthread_rwlock_unlock(&c->rwlock), 0);
	}
	return NULL;
}

/* Even members put, odd ones take. */
static void *bounded_queue(void *arg)
{
	struct crew *c = arg;
	int me = number(c);
	unsigned seed = c->seed + (unsigned)me;
	struct timespec t;

	for (int i = 1; i <= c->rounds; i++) {
		pthread_mutex_lock(&c->lock);
		while (me % 2 == 0 ? c->head - c->tail == 8 : c->head == c->tail) {
			pthread_cond_t *cond = me % 2 == 0 ? &c->cond2 : &c->cond;

			if (rand_r(&seed) % 3 == 0) {
				t = in_ns(CLOCK_REALTIME, rand_r(&seed) % 2000000);
				pthread_cond_timedwait(cond, &c->lock, &t);
			} else {
				pthread_cond_wait(cond, &c->lock);
			}
		}
		if (me % 2 == 0) {
			c->ring[c->head++ % 8] = i;
			c->a += i;
			if (rand_r(&seed) % 4)
				pthread_cond_signal(&c->cond);
			else
				pthread_cond_broadcast(&c->cond);
		} else {
			c->b += c->ring[c->tail++ % 8];
			pthread_cond_signal(&c->cond2);
		}
		pthread_mutex_unlock(&c->lock);
		fidget(&seed);
	}
	return NULL;
}

static void *sem_ring(void *arg)
{
	struct crew *c = arg;
	int me = number(c);
	unsigned seed = c->seed + (unsigned)me;
	struct timespec t;

	for (int i = 0; i < c->rounds; i++) {
		for (;;) {
			int r;

			if (rand_r(&seed) % 3 == 0) {
				t = in_ns(CLOCK_REALTIME, rand_r(&seed) % 1000000);
				r = sem_timedwait(&c->sem[me], &t);
			} else {
				r = sem_wait(&c->sem[me]);
			}
			if (r == 0)
				break;
			CHECK(errno == ETIMEDOUT || errno == EINTR);
		}
		CHECK_EQ(c->a, (long)i * c->n + me);
		c->a++;
		fidget(&seed);
		CHECK_EQ(sem_post(&c->sem[(me + 1) % c->n]), 0);
	}
	return NULL;
}

static void *barriers(void *arg)
{
	struct crew *c = arg;
	unsigned seed = c->seed + (unsigned)number(c);
	int r;

	for (int i = 0; i < c->rounds; i++) {
		__atomic_fetch_add(&c->a, 1, __ATOMIC_SEQ_CST);
		fidget(&seed);
		r = pthread_barrier_wait(&c->barrier);
		CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
		CHECK_EQ(__atomic_load_n(&c->a, __ATOMIC_SEQ_CST), (long)c->n * (i + 1));
		if (r != 0)
			c->b++;
		pthread_barrier_wait(&c->barrier);
		CHECK_EQ(c->b, i + 1);
	}
	return NULL;
}

/* Bytes go round through descriptors: me reads from fd[me][0], writes into the next one's. */
static void *descriptors(void *arg)
{
	struct crew *c = arg;
	int me = number(c);
	unsigned seed = c->seed + (unsigned)me;
	unsigned char buf[3000];
	size_t want, got;
	ssize_t n;

	for (int i = 0; i < c->rounds; i++) {
		if (me != 0 || i != 0) {
			want = sizeof(buf);
			for (got = 0; got < want; got += (size_t)n) {
				if (rand_r(&seed) % 4 == 0) {
					struct pollfd p = { c->fd[me][0], POLLIN, 0 };

					CHECK(poll(&p, 1, rand_r(&seed) % 2 ? -1 : 100) >= 0);
				}
				n = read(c->fd[me][0], buf + got, 1 + rand_r(&seed) % (want - got));
				CHECK(n > 0);
			}
			for (size_t k = 0; k < want; k++)
				CHECK_EQ(buf[k], (unsigned char)(k * 7 + (size_t)(me == 0 ? c->n * i : c->n * i + me)));
		}
		fidget(&seed);
		want = sizeof(buf);
		for (size_t k = 0; k < want; k++)
			buf[k] = (unsigned char)(k * 7 + (size_t)(c->n * i + me + 1));
		for (got = 0; got < want; got += (size_t)n) {
			n = write(c->fd[(me + 1) % c->n][1], buf + got, 1 + rand_r(&seed) % (want - got));
			CHECK(n > 0);
		}
	}
	return NULL;
}

static void lock_path(const struct crew *c, char *path, size_t size)
{
	snprintf(path, size, "/tmp/weft-mix.%d.%u", (int)getpid(), c->seed);
}

/* Stalls in the kernel that no wrapper sees, or sees and cannot avoid. */
static void *stalls(void *arg)
{
	struct crew *c = arg;
	int me = number(c);
	unsigned seed = c->seed + (unsigned)me;
	char path[64], line[32];
	int fd;
	FILE *f;

	lock_path(c, path, sizeof(path));
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0);
	for (int i = 0; i < c->rounds / 10 + 1; i++) {
		CHECK_EQ(flock(fd, LOCK_EX), 0);
		CHECK_EQ(c->a, c->b);
		c->a++;
		if (rand_r(&seed) % 2)
			sleep_ns(rand_r(&seed) % 500000);
		c->b++;
		CHECK_EQ(flock(fd, LOCK_UN), 0);
		spin_ns(rand_r(&seed) % 100000);
	}
	close(fd);
	if (me % 2 == 0 && me + 1 < c->n) {	/* a reader with stdio and its writer */
		f = fdopen(dup(c->fd[me][0]), "r");
		CHECK(f != NULL);
		for (int i = 0; i < 10; i++) {
			CHECK(fgets(line, sizeof(line), f) == line);
			CHECK_EQ(atoi(line), i);
		}
		fclose(f);
	} else if (me % 2 == 1) {
		for (int i = 0; i < 10; i++) {
			int n = snprintf(line, sizeof(line), "%d\n", i);

			sleep_ns(rand_r(&seed) % 2000000);
			CHECK_EQ(write(c->fd[me - 1][1], line, (size_t)n), n);
		}
	}
	return NULL;
}

static __thread int tls_a = 11;
static __thread char tls_b[700];
static pthread_key_t key;
static int keys_set, keys_gone;

static void key_gone(void *p)
{
	free(p);
	__atomic_fetch_add(&keys_gone, 1, __ATOMIC_RELAXED);
}

static void *leaf(void *arg)
{
	CHECK_EQ(tls_a, 11);
	for (size_t i = 0; i < sizeof(tls_b); i++)
		CHECK_EQ(tls_b[i], 0);
	tls_a = (int)(intptr_t)arg;
	memset(tls_b, tls_a, sizeof(tls_b));
	__atomic_fetch_add(&keys_set, 1, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_setspecific(key, malloc(50)), 0);
	sched_yield();
	CHECK_EQ(tls_a, (intptr_t)arg);
	return arg;
}

static void *creates(void *arg)
{
	struct crew *c = arg;
	int me = number(c);
	unsigned seed = c->seed + (unsigned)me;
	pthread_t t[5];
	pthread_attr_t a;

	CHECK_EQ(pthread_attr_init(&a), 0);
	for (int i = 0; i < c->rounds / 4 + 1; i++) {
		int n = 1 + rand_r(&seed) % 5;

		CHECK_EQ(pthread_attr_setstacksize(&a, (32u << rand_r(&seed) % 5) << 10), 0);
		for (intptr_t k = 0; k < n; k++)
			CHECK_EQ(pthread_create(&t[k], rand_r(&seed) % 2 ? &a : NULL, leaf, (void *)(k + 1)), 0);
		fidget(&seed);
		for (intptr_t k = 0; k < n; k++) {
			if (rand_r(&seed) % 4 == 0)
				CHECK_EQ(pthread_detach(t[k]), 0);
			else
				CHECK_EQ((intptr_t)join_thread(t[k]), k + 1);
		}
	}
	pthread_attr_destroy(&a);
	return NULL;
}

static void *forks(void *arg)
{
	struct crew *c = arg;
	int me = number(c), status;
	unsigned seed = c->seed + (unsigned)me;
	pid_t pid;

	for (int i = 0; i < 2; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			if (rand_r(&seed) % 2)
				CHECK_EQ((intptr_t)join_thread(start_thread(leaf, (void *)3)), 3);
			_exit(20 + me);
		}
		fidget(&seed);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 20 + me);
	}
	return NULL;
}

static void *memory(void *arg)
{
	struct crew *c = arg;
	int me = number(c);
	unsigned seed = c->seed + (unsigned)me;
	size_t size;
	char *p, *q;

	for (int i = 0; i < c->rounds; i++) {
		size = 2 * sizeof(size) + rand_r(&seed) % (rand_r(&seed) % 50 ? 2000 : 400000);
		p = malloc(size);
		CHECK(p != NULL);
		memset(p, me, size);
		memcpy(p, &size, sizeof(size));
		p[sizeof(size)] = (char)(p[size - 1] = (char)me);
		q = __atomic_exchange_n(&c->gift, p, __ATOMIC_ACQ_REL);
		if (q != NULL) {
			memcpy(&size, q, sizeof(size));
			CHECK_EQ(q[sizeof(size)], q[size - 1]);
			free(q);
		}
		errno = me;
		fidget(&seed);
		double d = strtod("0.1", NULL);
		CHECK(d == 0.1);
	}
	return NULL;
}

static volatile sig_atomic_t signals;
static __thread volatile int signals_here;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
	signals_here++;
}

static void *signalled(void *arg)
{
	struct crew *c = arg;
	unsigned seed = c->seed + (unsigned)number(c);

	for (int i = 0; i < c->rounds; i++) {
		CHECK_EQ(raise(SIGUSR1), 0);
		CHECK_EQ(signals_here, i + 1);
		fidget(&seed);
	}
	return NULL;
}

static const struct scene {
	const char *name;
	void *(*fn)(void *);
	bool balanced;			/* a equals b at the end */
} scenes[] = {
	{ "counters", counters, true }, { "readers_writers", readers_writers, true },
	{ "bounded_queue", bounded_queue, true }, { "sem_ring", sem_ring, false }, { "barriers", barriers, false },
	{ "descriptors", descriptors, false }, { "stalls", stalls, true }, { "creates", creates, false },
	{ "forks", forks, false }, { "memory", memory, false }, { "signalled", signalled, false },
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };
static long played[SCENES];

static void play(const struct scene *s, unsigned seed)
{
	struct crew *c = calloc(1, sizeof(*c));
	pthread_t t[MEMBERS];
	char path[64];

	CHECK(c != NULL);
	c->seed = seed;
	c->n = 2 + (int)(rand_r(&seed) % (MEMBERS - 1));
	c->n -= c->n % 2 && s->fn == bounded_queue;	/* as many put as take */
	c->rounds = 1 + (int)(rand_r(&seed) % 60);
	CHECK_EQ(pthread_mutex_init(&c->lock, NULL), 0);
	CHECK_EQ(pthread_cond_init(&c->cond, NULL), 0);
	CHECK_EQ(pthread_cond_init(&c->cond2, NULL), 0);
	CHECK_EQ(pthread_rwlock_init(&c->rwlock, NULL), 0);
	CHECK_EQ(pthread_spin_init(&c->spin, PTHREAD_PROCESS_PRIVATE), 0);
	CHECK_EQ(pthread_barrier_init(&c->barrier, NULL, (unsigned)c->n), 0);
	for (int i = 0; i < c->n; i++) {
		CHECK_EQ(sem_init(&c->sem[i], 0, i == 0), 0);
		if (s->fn != descriptors && s->fn != stalls)
			continue;
		if (seed % 2)
			CHECK_EQ(pipe2(c->fd[i], O_CLOEXEC), 0);
		else
			CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->fd[i]), 0);
	}
	for (int i = 0; i < c->n; i++)
		t[i] = start_thread(s->fn, c);
	for (int i = 0; i < c->n; i++)
		join_thread(t[i]);
	if (s->balanced)
		CHECK_EQ(c->a, c->b);
	for (int i = 0; i < c->n && (s->fn == descriptors || s->fn == stalls); i++) {
		close(c->fd[i][0]);
		close(c->fd[i][1]);
	}
	lock_path(c, path, sizeof(path));
	unlink(path);
	for (int i = 0; i < c->n; i++)
		CHECK_EQ(sem_destroy(&c->sem[i]), 0);
	CHECK_EQ(pthread_barrier_destroy(&c->barrier), 0);
	CHECK_EQ(pthread_spin_destroy(&c->spin), 0);
	CHECK_EQ(pthread_rwlock_destroy(&c->rwlock), 0);
	CHECK_EQ(pthread_cond_destroy(&c->cond), 0);
	CHECK_EQ(pthread_cond_destroy(&c->cond2), 0);
	CHECK_EQ(pthread_mutex_destroy(&c->lock), 0);
	free(c->gift);
	free(c);
}

static void *director(void *arg)
{
	unsigned seed = (unsigned)(seed0 * 31 + (uintptr_t)arg);

	while (now_ns() < deadline) {
		int k = rand_r(&seed) % SCENES;

		play(&scenes[k], (unsigned)rand_r(&seed));
		__atomic_fetch_add(&played[k], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 5;
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t t[CREWS];

	seed0 = argc > 2 ? strtoul(argv[2], NULL, 0) : (unsigned long)time(NULL) * 1000 + (unsigned long)getpid() % 1000;
	fprintf(stderr, "mix: seed %lu, %g seconds\n", seed0, seconds);
	deadline = now_ns() + (uint64_t)(seconds * 1e9);
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	CHECK_EQ(pthread_key_create(&key, key_gone), 0);
	for (uintptr_t i = 0; i < CREWS; i++)
		t[i] = start_thread(director, (void *)i);
	for (int i = 0; i < CREWS; i++)
		join_thread(t[i]);
	for (int i = 0; i < 1000 && __atomic_load_n(&keys_gone, __ATOMIC_SEQ_CST) < keys_set; i++)
		sleep_ns(5 * MS);		/* detached leaves */
	CHECK_EQ(keys_gone, keys_set);
	for (int i = 0; i < SCENES; i++)
		fprintf(stderr, "%s%s %ld", i ? ", " : "mix: ", scenes[i].name, played[i]);
	fprintf(stderr, "\n");
	return 0;
}
