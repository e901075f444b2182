/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Everything of a process that a call of PAM has no business with. */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

const char *proc = "/proc";
extern char **environ;

/* A text that grows, outside of small stacks. */
static struct {
	char bytes[1 << 15];
	size_t len;
} text;

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text.bytes + text.len, sizeof(text.bytes) - text.len, format, args);
	va_end(args);
	if (n > 0 && text.len + (size_t)n < sizeof(text.bytes))
		text.len += (size_t)n;
}

static void put(const char *when, const char *name)
{
	say("%s %s %s", when, name, text.bytes);
	text.len = 0;
	text.bytes[0] = '\0';
}

static const char *path(const char *below, const char *more)
{
	static char buffer[256];

	(void)snprintf(buffer, sizeof(buffer), "%s/%s%s", proc, below, more);
	return buffer;
}

/* each calls fn for the names in a folder of proc. */
static void each(const char *folder, void (*fn)(const char *name))
{
	DIR *dir = opendir(path(folder, ""));
	struct dirent *entry;

	if (dir == NULL) {
		add("%s", strerror(errno));
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
			fn(entry->d_name);
	}
	(void)closedir(dir);
}

static void add_fd(const char *name)
{
	char target[200], where[32];
	ssize_t n;
	int fd = atoi(name);

	(void)snprintf(where, sizeof(where), "self/fd/%s", name);
	n = readlink(path(where, ""), target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	add("%d=%s,%x,%x ", fd, target, (unsigned)fcntl(fd, F_GETFD), (unsigned)fcntl(fd, F_GETFL));
}

static void add_file(const char *name, size_t max)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	char bytes[512];
	ssize_t n = 0;

	for (size_t sum = 0; fd >= 0 && sum < max; sum += (size_t)n) {
		n = read(fd, bytes, sizeof(bytes));
		if (n <= 0)
			break;
		add("%.*s", (int)n, bytes);
	}
	if (fd >= 0)
		(void)close(fd);
}

static void add_children(const char *tid)
{
	char where[64];

	(void)snprintf(where, sizeof(where), "self/task/%s/children", tid);
	add_file(path(where, ""), 1 << 14);
}

static void add_name(const char *name)
{
	add("%s ", name);
}

/* status reports the lines of /proc that nothing should move. */
static void status(const char *when)
{
	static const char *const names[] = {"Umask",   "Uid",    "Gid",    "Groups",     "NSpgid",  "NSsid",
					    "Threads", "SigBlk", "SigIgn", "SigCgt",     "CapInh",  "CapPrm",
					    "CapEff",  "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "TracerPid"};
	FILE *f = fopen(path("thread-self/status", ""), "re");
	static char line[1024];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *colon = strchr(line, ':');

		if (colon == NULL)
			continue;
		*colon = '\0';
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (strcmp(names[i], line) == 0) {
				add("%s", colon + 1);
				put(when, line);
			}
		}
	}
	if (f != NULL)
		(void)fclose(f);
}

/* dispositions reads the kernel's own, since libc hides two signals. */
static void dispositions(const char *when)
{
	for (int sig = 1; sig <= 64; sig++) {
		unsigned long sa[8] = {0};

		if (syscall(SYS_rt_sigaction, sig, NULL, sa, 8) == 0 && (sa[0] != 0 || sa[1] != 0))
			add("%d=%lx,%lx,%lx ", sig, sa[0], sa[1], sa[3]);
	}
	put(when, "dispositions");
}

static void limits(const char *when)
{
	for (int i = 0; i < 16; i++) {
		struct rlimit l = {0, 0};

		(void)getrlimit((__rlimit_resource_t)i, &l);
		add("%llx/%llx ", (unsigned long long)l.rlim_cur, (unsigned long long)l.rlim_max);
	}
	put(when, "rlimits");
}

static void timers(const char *when)
{
	for (int i = 0; i < 3; i++) {
		struct itimerval t = {{0, 0}, {0, 0}};

		(void)getitimer((__itimer_which_t)i, &t);
		add("%d/%ld.%06ld ", t.it_value.tv_sec != 0 || t.it_value.tv_usec != 0, t.it_interval.tv_sec,
		    t.it_interval.tv_usec);
	}
	put(when, "itimers");
}

static void environment(const char *when)
{
	uint64_t hash = 14695981039346656037U;
	int count = 0;

	for (char **v = environ; v != NULL && *v != NULL; v++, count++) {
		for (const char *c = *v; *c != '\0'; c++)
			hash = (hash ^ (uint8_t)*c) * 1099511628211U;
	}
	add("%p %d %llx", (void *)environ, count, (unsigned long long)hash);
	put(when, "environ");
}

static void links(const char *when)
{
	static const char *const names[] = {"cwd", "root", "exe"};
	char target[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ssize_t n = readlink(path("self/", names[i]), target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		add("%s", target);
		put(when, names[i]);
	}
}

static void attributes(const char *when)
{
	int reaper = -1, death = -1, cancel = -1, name_set;
	char name[17] = "";
	stack_t alt = {.ss_sp = NULL};

	(void)prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	(void)prctl(PR_GET_PDEATHSIG, &death);
	name_set = prctl(PR_GET_NAME, name);
	(void)sigaltstack(NULL, &alt);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &cancel);
	(void)pthread_setcancelstate(cancel, NULL);
	add("subreaper=%d pdeathsig=%d name=%s/%d dumpable=%d keepcaps=%d slack=%d", reaper, death, name, name_set,
	    prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_TIMERSLACK));
	add(" altstack=%p/%d cancel=%d personality=%x nice=%d locale=%s sid=%d pgrp=%d", alt.ss_sp, alt.ss_flags,
	    cancel, (unsigned)personality(0xffffffff), getpriority(PRIO_PROCESS, 0), setlocale(LC_ALL, NULL),
	    (int)getsid(0), (int)getpgrp());
	put(when, "attributes");
}

/* in_own_proc reports whether proc shows this process's own pid namespace. */
static bool in_own_proc(void)
{
	char target[32];
	ssize_t n = readlink(path("self", ""), target, sizeof(target) - 1);

	target[n > 0 ? n : 0] = '\0';
	return atoi(target) == getpid();
}

void state(const char *when)
{
	each("self/task", add_name);
	put(when, "threads");
	each("self/fd", add_fd);
	put(when, "fds");
	each("self/task", add_children);
	put(when, "children");
	if (getpid() == 1 && in_own_proc()) {
		each("", add_name);
		put(when, "proc");
	}
	status(when);
	dispositions(when);
	limits(when);
	timers(when);
	environment(when);
	links(when);
	attributes(when);
	add_file(path("self/oom_score_adj", ""), 16);
	put(when, "oom");
}
