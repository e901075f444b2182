/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What kind of host this is. */
#include "host.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

bool host_waits, host_reaps, host_ignores, host_deaf, fresh_threads, leaves, mute;
size_t stack_size;
unsigned cancel_after;

static void waits(const char *v)
{
	(void)v;
	host_waits = true;
}

static void reaps(const char *v)
{
	(void)v;
	host_reaps = true;
}

static void ignores(const char *v)
{
	(void)v;
	host_ignores = true;
}

static void is_deaf(const char *v)
{
	(void)v;
	host_deaf = true;
	sigchld = -1;
}

static void masks(const char *v)
{
	sigset_t all;

	(void)v;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
}

static void closes_stdio(const char *v)
{
	(void)v;
	for (int fd = 0; fd < 3; fd++)
		(void)close(fd);
}

static void sets_umask(const char *v)
{
	(void)umask((mode_t)strtoul(v, NULL, 8));
}

static void deletes_cwd(const char *v)
{
	char dir[] = "/tmp/host-XXXXXX";

	(void)v;
	if (mkdtemp(dir) == NULL || chdir(dir) != 0 || rmdir(dir) != 0)
		fail("cwd");
}

static void adopts(const char *v)
{
	(void)v;
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void finds_proc(const char *v)
{
	proc = strdup(v);
}

/* limit=NUMBER:SOFT:HARD sets a resource limit. */
static void limits(const char *v)
{
	char *end;
	int resource = (int)strtol(v, &end, 10);
	struct rlimit l = {.rlim_cur = strtoul(end + 1, &end, 10)};

	l.rlim_max = strtoul(end + 1, NULL, 10);
	if (setrlimit((__rlimit_resource_t)resource, &l) != 0)
		fail("setrlimit");
}

/* refuse=NUMBER:ERRNO makes the kernel refuse a system call. */
static void refuses(const char *v)
{
	char *end;
	uint32_t nr = (uint32_t)strtoul(v, &end, 10), error = (uint32_t)strtoul(end + 1, NULL, 10);
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		fail("seccomp");
}

static void threads(const char *v)
{
	fresh_threads = true;
	stack_size = strtoul(v, NULL, 10);
}

static void *sleeps(void *data)
{
	for (;;)
		(void)pause();
	return data;
}

static void is_cancelled(const char *v)
{
	pthread_t t;

	/* The first time makes libc handle a signal of its own. */
	if (pthread_create(&t, NULL, sleeps, NULL) != 0 || pthread_cancel(t) != 0 || pthread_join(t, NULL) != 0)
		fail("cancel");
	fresh_threads = true;
	cancel_after = (unsigned)atoi(v);
}

static void is_mute(const char *v)
{
	(void)v;
	mute = true;
}

static void leaves_its_conversation(const char *v)
{
	(void)v;
	fresh_threads = leaves = true;
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* alarms=MICROSECONDS: every system call that can be interrupted is. */
static void alarms(const char *v)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	struct itimerval t = {.it_interval = {0, atoi(v)}, .it_value = {0, atoi(v)}};

	(void)sigaction(SIGALRM, &sa, NULL);
	(void)setitimer(ITIMER_REAL, &t, NULL);
}

/* Threads that fork and load libraries whenever a call runs. */
static atomic_bool noisy;
static atomic_int parked;
static int noise_threads;

static void make_noise(void)
{
	void *library;
	pid_t pid = fork();

	if (pid == 0) {
		(void)usleep(500);
		_exit(0);
	}
	library = dlopen("libcrypt.so.1", RTLD_NOW);
	if (library != NULL)
		(void)dlclose(library);
	free(malloc(100000));
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

static void *noise(void *data)
{
	(void)data;
	for (;;) {
		if (atomic_load(&noisy)) {
			make_noise();
			continue;
		}
		(void)atomic_fetch_add(&parked, 1);
		while (!atomic_load(&noisy))
			(void)usleep(200);
		(void)atomic_fetch_sub(&parked, 1);
	}
	return NULL;
}

static void forks_and_loads(const char *v)
{
	pthread_t t;

	noise_threads = atoi(v);
	sigchld = -1;
	for (int i = 0; i < noise_threads; i++) {
		if (pthread_create(&t, NULL, noise, NULL) != 0)
			fail("thread");
	}
	traits_quiet();
}

/* A thread whose children keep copies of all descriptors that are open during
 * a call. */
enum { HOLDERS = 64 };
static pid_t held[HOLDERS];
static int held_count;
static bool holds;
static pthread_t holder_thread;

static void *hold_copies(void *data)
{
	(void)data;
	while (atomic_load(&noisy) && held_count < HOLDERS) {
		pid_t pid = fork();

		if (pid == 0) {
			for (;;)
				(void)pause();
		}
		if (pid > 0)
			held[held_count++] = pid;
		(void)usleep(200);
	}
	return NULL;
}

static void holds_copies(const char *v)
{
	(void)v;
	holds = true;
	sigchld = -1;
	/* The first thread of a process makes libc handle a signal of its own. */
	if (pthread_create(&holder_thread, NULL, hold_copies, NULL) != 0 || pthread_join(holder_thread, NULL) != 0)
		fail("thread");
}

static void let_go(void)
{
	(void)pthread_join(holder_thread, NULL);
	for (int i = 0; i < held_count; i++) {
		(void)kill(held[i], SIGKILL);
		(void)waitpid(held[i], NULL, 0);
	}
	held_count = 0;
}

/* next_pid chooses the pid of the next child, in our own pid namespace. */
static void next_pid(int pid)
{
	char text[16];
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
	int len = snprintf(text, sizeof(text), "%d", pid - 1);

	if (fd < 0 || write(fd, text, (size_t)len) != len)
		fail("ns_last_pid");
	(void)close(fd);
}

/* Children that have the pids which the processes of the call have in another
 * pid namespace, the one that proc shows. */
enum { STRANGERS = 16 };
static bool makes_strangers;
static pid_t strangers[STRANGERS];
static int stranger_count;

/* below notes the descendants of a process, by proc's numbers. */
static void below(const char *process)
{
	char path[300], pid[16];
	DIR *tasks;
	struct dirent *task;

	(void)snprintf(path, sizeof(path), "%s/%s/task", proc, process);
	tasks = opendir(path);
	while (tasks != NULL && (task = readdir(tasks)) != NULL) {
		FILE *children;

		(void)snprintf(path, sizeof(path), "%s/%s/task/%.16s/children", proc, process, task->d_name);
		children = fopen(path, "re");
		while (children != NULL && fscanf(children, "%15s", pid) == 1) {
			if (stranger_count == STRANGERS)
				fail("too many processes");
			strangers[stranger_count++] = atoi(pid);
			below(pid);
		}
		if (children != NULL)
			(void)fclose(children);
	}
	if (tasks != NULL)
		(void)closedir(tasks);
}

static void make_strangers(void)
{
	stranger_count = 0;
	below("self");
	for (int i = 0; i < stranger_count; i++) {
		pid_t pid;

		next_pid(strangers[i]);
		pid = fork();
		while (pid == 0)
			(void)pause();
		strangers[i] = pid;
	}
	say("strangers made %d", stranger_count);
}

static void has_strangers(const char *v)
{
	(void)v;
	makes_strangers = true;
	sigchld = -1;
}

void traits_prompt(void)
{
	if (makes_strangers)
		make_strangers();
}

/* part_with reports whether all strangers still live, and ends them. */
static void part_with_strangers(void)
{
	int live = 0;

	for (int i = 0; i < stranger_count; i++) {
		live += waitpid(strangers[i], NULL, WNOHANG) == 0;
		(void)kill(strangers[i], SIGKILL);
		(void)waitpid(strangers[i], NULL, 0);
	}
	say("strangers live %d of %d", live, stranger_count);
}

/* end=HOW:MICROSECONDS ends the host that long after a call began. */
static char end_how;
static useconds_t end_after;

static void *end_host(void *data)
{
	char name[] = "sleep", time[] = "10", *argv[] = {name, time, NULL}, *none[] = {NULL};

	(void)data;
	(void)usleep(end_after);
	if (end_how == 'e')
		exit(0);
	if (end_how == 'x')
		(void)execve("/bin/sleep", argv, none);
	if (end_how == 'k')
		(void)kill(getpid(), SIGKILL);
	if (fork() != 0) /* the child keeps copies of everything */
		_exit(0);
	(void)sleep(10);
	_exit(0);
}

static void ends(const char *v)
{
	end_how = v[0];
	end_after = (useconds_t)strtoul(v + 2, NULL, 10);
}

void traits_begin(void)
{
	pthread_t t;

	atomic_store(&noisy, true);
	if (holds && pthread_create(&holder_thread, NULL, hold_copies, NULL) != 0)
		fail("thread");
	if (end_how != '\0' && pthread_create(&t, NULL, end_host, NULL) != 0)
		fail("thread");
}

void traits_quiet(void)
{
	atomic_store(&noisy, false);
	while (atomic_load(&parked) < noise_threads)
		(void)usleep(200);
	if (holds)
		let_go();
	if (makes_strangers)
		part_with_strangers();
}

static const struct {
	const char *name;
	void (*enter)(const char *value);
} traits[] = {
	{"waits", waits},
	{"reaps", reaps},
	{"ignores", ignores},
	{"deaf", is_deaf},
	{"masks", masks},
	{"umask", sets_umask},
	{"no_stdio", closes_stdio},
	{"no_cwd", deletes_cwd},
	{"adopts", adopts},
	{"limit", limits},
	{"refuse", refuses},
	{"threads", threads},
	{"cancelled", is_cancelled},
	{"leaves", leaves_its_conversation},
	{"mute", is_mute},
	{"alarms", alarms},
	{"noise", forks_and_loads},
	{"holds", holds_copies},
	{"strangers", has_strangers},
	{"end", ends},
	{"proc", finds_proc},
};

static void enter(char *trait)
{
	char *value = strchr(trait, '=');

	if (value != NULL)
		*value++ = '\0';
	for (size_t i = 0; i < sizeof(traits) / sizeof(traits[0]); i++) {
		if (strcmp(traits[i].name, trait) == 0) {
			traits[i].enter(value != NULL ? value : "");
			return;
		}
	}
	errno = EINVAL;
	fail(trait);
}

void traits_enter(const char *list)
{
	char *copy = strdup(list), *save = NULL;

	for (char *t = strtok_r(copy, ",", &save); t != NULL; t = strtok_r(NULL, ",", &save))
		enter(t);
	free(copy);
}
