/* SPDX-License-Identifier: MIT
 * setuid, setgid and initgroups in one thread change the ids of the whole process: every kernel thread in /proc says so, those that stall in the
 * kernel too. And once each: a call that would do something else the second time is not repeated by threads that come to be
 * meanwhile. Without the right to change them the test is skipped (77).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ID 65534
#define GROUP 12345	/* below ID: the kernel sorts them */
#define STALLS 24

static atomic_int stop;
static int stalled[2];

static void *spin(void *arg)
{
	while (!atomic_load(&stop))
		if (arg)
			sched_yield();
	return NULL;
}

static void *stall(void *arg)
{
	char c;
	FILE *f = fdopen(stalled[0], "r");	/* libc's own read: no wrapper sees it */

	(void)arg;
	return f && fread(&c, 1, 1, f) == 1 ? f : NULL;
}

static void *drop(void *arg)
{
	(void)arg;
	/* no id; it must not be taken for "leave it as it is" */
	if (seteuid((uid_t)-1) != -1 || errno != EINVAL || setegid((gid_t)-1) != -1 || errno != EINVAL)
		return NULL;
	return initgroups("nobody", GROUP) == 0 && setgid(ID) == 0 && setuid(ID) == 0 ? &stop : NULL;
}

/* In how many lines of all kernel threads' status something is wrong. */
static int count(int (*wrong)(const char *line))
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int bad = 0;

	while (d && (e = readdir(d))) {
		char path[300], line[256];
		FILE *f;

		snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
		if (e->d_name[0] == '.' || !(f = fopen(path, "r")))
			continue;
		while (fgets(line, sizeof line, f))
			bad += wrong(line);
		fclose(f);
	}
	if (d)
		closedir(d);
	return bad;
}

static int not_id(const char *line)
{
	int real, effective, group;

	if (sscanf(line, "Groups: %d", &group) == 1)
		return group != GROUP;
	return (sscanf(line, "Uid: %d %d", &real, &effective) == 2 || sscanf(line, "Gid: %d %d", &real, &effective) == 2) &&
	       (real != ID || effective != ID);
}

/* How many kernel threads have other ids than ID. */
static int others(void)
{
	return count(not_id);
}

/* --- once each --- */

static int wanted[3];

static int not_wanted(const char *line)
{
	int r, u, s;

	return sscanf(line, "Uid: %d %d %d", &r, &u, &s) == 3 && (r != wanted[0] || u != wanted[1] || s != wanted[2]);
}

/* How many kernel threads have not these user ids. */
static int unlike(int real, int effective, int saved)
{
	wanted[0] = real;
	wanted[1] = effective;
	wanted[2] = saved;
	return count(not_wanted);
}

/* Each more of them that stalls may have a kernel thread made: while the ids change. Who is not root becomes it by setuid(0) with its
 * effective id only, because the saved one allows it; done again, as root, the call would change the real one too. */
static int once(void)
{
	pthread_t t[STALLS];
	uid_t r, e, s;
	int bad = 0;

	if (pipe(stalled) != 0)
		return 1;
	for (int i = 0; i < STALLS; i++) {
		pthread_create(&t[i], NULL, stall, NULL);
		for (int k = 0; k < 4; k++) {
			if (k & 1)
				usleep((useconds_t)(i * 13));
			if (setresuid(ID, ID, 0) != 0 || setuid(0) != 0)
				return 2;
			if (getresuid(&r, &e, &s) != 0 || r != ID || e != 0 || s != 0)
				return 3;
			bad += unlike(ID, 0, 0);
			if (setresuid(0, 0, 0) != 0)
				return 4;
		}
	}
	close(stalled[1]);
	for (int i = 0; i < STALLS; i++)
		pthread_join(t[i], NULL);
	if (bad)
		fprintf(stderr, "setids: %d times a kernel thread had other ids\n", bad);
	return bad ? 5 : 0;
}

static int in_child(int (*test)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(test());
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

int main(void)
{
	pthread_t t[6];
	void *ok;

	if (getuid() != 0)
		return 77;
	int err = in_child(once);
	if (err) {
		fprintf(stderr, "setids: once: %d\n", err);
		return 1;
	}
	if (pipe(stalled) != 0)
		return 1;
	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, spin, (void *)(i & 1));
	pthread_create(&t[4], NULL, stall, NULL);
	usleep(50000);
	pthread_create(&t[5], NULL, drop, NULL);
	pthread_join(t[5], &ok);
	if (!ok || others() != 0) {
		fprintf(stderr, "setids: %d kernel threads kept their ids\n", others());
		return 1;
	}
	atomic_store(&stop, 1);
	if (write(stalled[1], "x", 1) != 1)
		return 1;
	for (int i = 0; i < 5; i++)
		pthread_join(t[i], NULL);
	return 0;
}
