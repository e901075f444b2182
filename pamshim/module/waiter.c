/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Starting the worker in somebody else's process, and ending it.
 *
 * The host may reap every child, ignore SIGCHLD, or wait(NULL) for a child of
 * its own, as login does: so its only child from us is a waiter with exit
 * signal 0, which the host can neither hear of nor wait for by accident. The
 * waiter starts the worker, adopts whatever that leaves behind, and kills all
 * of it when the call ends, however it ends.
 *
 * From clone on, the child of a process with threads runs here: between that
 * and exec there is nothing but system calls and memory of its own.
 */
#include "module.h"
#include "../safefile/safefile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The descriptors of the waiter; the worker has the first five. */
enum { FD_SOCKET = 3, FD_STDERR = 4, FD_CONTROL = 5, FD_END = 6 };

/* What the waiter needs to know. */
struct plan {
	const char *worker;
	char *environment[3];
	int socket, control, err; /* err: -1 for none */
	pid_t host;
};

static pid_t raw_fork(int exit_signal)
{
	/* CLONE_* flags: none. All other arguments are 0, so that their order,
	 * which differs between machines, does not matter. */
	return (pid_t)syscall(SYS_clone, (unsigned long)exit_signal, 0, 0, 0, 0);
}

/* become makes every id the effective one: else, under su, the caller could
 * stop or kill these processes, and AT_SECURE would clear what protects them.
 * Raw calls, since glibc's would signal threads that are not here. */
static bool become(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (uid == 0 && syscall(SYS_setgroups, 0, NULL) != 0 && errno != EPERM)
		return false;
	return syscall(SYS_setresgid, gid, gid, gid) == 0 && syscall(SYS_setresuid, uid, uid, uid) == 0;
}

/* close_listed closes what /proc lists: a host may have lowered its limit
 * below descriptors that it has open. */
static bool close_listed(int first)
{
	_Alignas(struct dirent64) char list[1024];
	int dir = open("/proc/thread-self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n = 0;

	while (dir >= 0 && (n = syscall(SYS_getdents64, dir, list, sizeof(list))) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent64 *entry = (const void *)(list + at);
			int fd = 0;

			for (const char *d = entry->d_name; *d >= '0' && *d <= '9'; d++)
				fd = fd * 10 + (*d - '0');
			if (fd >= first && fd != dir)
				(void)close(fd);
			at += entry->d_reclen;
		}
	}
	if (dir >= 0)
		(void)close(dir);
	return dir >= 0 && n == 0;
}

/* close_from makes do without close_range, which kernels before 5.9 lack. */
static void close_from(unsigned first)
{
	struct rlimit limit = {0, 0};

	if (syscall(SYS_close_range, first, ~0U, 0) == 0 || close_listed((int)first))
		return;
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	for (unsigned fd = first; fd < limit.rlim_cur && fd < 1U << 20; fd++)
		(void)close((int)fd);
}

/* place arranges the descriptors. All sources are moved above the targets
 * first, so that none is overwritten before its turn. */
static bool place(const struct plan *p)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int high[4] = {null, p->socket, p->err >= 0 ? p->err : null, p->control};

	for (int i = 0; i < 4; i++) {
		high[i] = fcntl(high[i], F_DUPFD_CLOEXEC, FD_END);
		if (high[i] < 0)
			return false;
	}
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(high[0], fd) != fd)
			return false;
	}
	if (dup2(high[1], FD_SOCKET) < 0 || dup2(high[2], FD_STDERR) < 0 || dup3(high[3], FD_CONTROL, O_CLOEXEC) < 0)
		return false;
	close_from(FD_END);
	return true;
}

/* default_signals undoes what the host ignores or handles. The raw call takes
 * the two signals, too, that glibc keeps to itself: posix_spawn leaves them
 * ignored, and whatever make starts has them so. All zeros is SIG_DFL. */
static void default_signals(void)
{
	const unsigned long dfl[8] = {0};

	for (int sig = 1; sig <= SIGRTMAX; sig++)
		(void)syscall(SYS_rt_sigaction, sig, dfl, NULL, 8); /* KILL and STOP refuse */
}

/* exec_worker turns the waiter's child into the worker. */
static _Noreturn void exec_worker(const struct plan *p, pid_t waiter)
{
	char name[] = "authn-worker";
	char *argv[] = {name, NULL};
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != waiter || chdir("/") != 0)
		_exit(127);
	(void)umask(077);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(p->worker, argv, (char **)(uintptr_t)p->environment);
	_exit(127);
}

/* kill_child kills a child of ours, and nobody else: where /proc shows another
 * pid namespace, its numbers mean strangers. */
static bool kill_child(pid_t pid)
{
	siginfo_t info;

	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0)
		return false;
	(void)kill(pid, SIGKILL);
	return true;
}

/* kill_listed kills the children that /proc lists, adopted ones too, and
 * returns how many there were. All of the list is read: those that live are at
 * its end, behind any number of dead ones. */
static long kill_listed(void)
{
	char list[4096];
	int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	long count = 0;
	pid_t pid = 0;
	ssize_t n;

	while (fd >= 0 && (n = read(fd, list, sizeof(list))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (list[i] >= '0' && list[i] <= '9') {
				pid = pid * 10 + (list[i] - '0');
			} else if (pid > 0) {
				count += kill_child(pid);
				pid = 0;
			}
		}
	}
	if (fd >= 0)
		(void)close(fd);
	return count;
}

/* kill_next kills one child without /proc, by trying numbers from pid on, as the
 * kernel gives them out. Returns where it got to. */
static pid_t kill_next(pid_t pid)
{
	const pid_t end = 1 << 22; /* the kernel's PID_MAX_LIMIT */

	for (pid_t tried = 0; tried < end; tried++) {
		pid = pid + 1 < end ? pid + 1 : 2;
		if (kill_child(pid))
			break;
	}
	return pid;
}

/* bury reaps up to count of the dead. Returns false when no child is left. */
static bool bury(long count)
{
	pid_t pid = 1;

	while (count-- > 0 && pid != 0) {
		pid = wait4(-1, NULL, __WALL | WNOHANG, NULL);
		if (pid < 0 && errno != EINTR)
			return false;
	}
	return true;
}

/* reap ends all that is left. A child whose parent dies becomes ours before
 * that parent can be reaped, so each round sees the next generation. A round
 * buries little more than it has seen: there may be processes that fork and die
 * faster than they can be buried, and they must be killed first. */
static void reap(pid_t worker)
{
	pid_t next = worker; /* whatever it started came after it */
	int naps = 20;

	(void)setpriority(PRIO_PROCESS, 0, -20); /* not to queue behind them */
	(void)kill_child(worker);
	for (long seen = 0; bury(seen + 100);) {
		seen = kill_listed();
		if (seen == 0 && naps > 0) {
			/* Without /proc; most die with their parents. */
			naps--;
			(void)poll(NULL, 0, 1);
			continue;
		}
		if (seen == 0)
			next = kill_next(next);
		(void)wait4(-1, NULL, __WALL, NULL);
	}
}

/* watch returns when the call is over: the module says so or is gone, the
 * worker has ended, or the host has. Meanwhile it buries what it was left, lest
 * that become all the processes there can be. */
static void watch(pid_t worker, pid_t host)
{
	int pidfd = (int)syscall(SYS_pidfd_open, worker, 0);
	struct pollfd p[2] = {{.fd = FD_CONTROL, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

	for (;;) {
		siginfo_t info = {.si_pid = 0};

		if (poll(p, 2, pidfd >= 0 ? 1000 : 10) > 0)
			return;
		if (getppid() != host || !bury(1 << 15))
			return;
		if (pidfd < 0 &&
		    (waitid(P_PID, (id_t)worker, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0))
			return;
	}
}

/* over ends the waiter. The module hears of it even where copies of our
 * descriptors, held by other children of the host, keep them from ever reading
 * as closed. */
static _Noreturn void over(int control)
{
	(void)send(control, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	_exit(0);
}

static _Noreturn void waiter(const struct plan *p)
{
	const struct rlimit none = {0, 0};
	pid_t self = getpid(), worker;

	if (getppid() != p->host || !become())
		over(p->control);
	(void)setrlimit(RLIMIT_CORE, &none); /* we are a copy of the host's memory */
	(void)setsid();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)prctl(PR_SET_NAME, "authn-waiter");
	if (!place(p))
		over(p->control);
	default_signals(); /* an ignored SIGCHLD would reap for us; all are blocked */
	worker = raw_fork(SIGCHLD);
	if (worker == 0)
		exec_worker(p, self);
	/* Keeping the frame socket would hide the module's end from the worker. */
	(void)close(FD_SOCKET);
	(void)close(FD_STDERR);
	if (worker > 0) {
		watch(worker, p->host);
		reap(worker);
	}
	over(FD_CONTROL);
}

/* lift keeps a new descriptor off 0 to 2, which the host may have closed and
 * may write to all the same. */
static int lift(int fd)
{
	int higher;

	if (fd < 0 || fd > 2)
		return fd;
	higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	(void)close(fd);
	return higher;
}

/* channels opens the frame socket and the control pipe; [0] is ours. */
static bool channels(int sockets[2], int control[2])
{
	bool ok = true;

	sockets[0] = sockets[1] = control[0] = control[1] = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0)
		ok = false;
	for (int i = 0; i < 2; i++) {
		sockets[i] = lift(sockets[i]);
		control[i] = lift(control[i]);
		ok = ok && sockets[i] >= 0 && control[i] >= 0;
	}
	return ok;
}

static void close_all(const int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
}

/* environment builds the worker's from nothing. TMPDIR is for hosts that run
 * as a user, and never for one that is setuid. */
static char *environment(struct plan *p)
{
	const char *tmp = geteuid() != 0 ? secure_getenv("TMPDIR") : NULL;
	char *text = NULL;

	p->environment[0] = (char *)(uintptr_t) "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	if (tmp != NULL && asprintf(&text, "TMPDIR=%s", tmp) < 0)
		text = NULL;
	p->environment[1] = text;
	return text;
}

/* launch clones the waiter with every signal blocked, so that no handler of
 * the host runs in it. */
static pid_t launch(const struct plan *p)
{
	sigset_t all, before;
	pid_t pid;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = raw_fork(0);
	if (pid == 0)
		waiter(p);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static bool worker_usable(struct call *c)
{
	char why[SAFEFILE_WHY];
	int program = safefile_open(c->words.worker, SAFEFILE_RUN, why);

	if (program >= 0) {
		(void)close(program);
		return true;
	}
	(void)snprintf(c->why, sizeof(c->why), "the worker: %s%s", why,
		       errno == ENOENT ? ": install it, or name it with worker=" : "");
	c->reason = c->why;
	return false;
}

int worker_start(struct call *c)
{
	int sockets[2], control[2];
	struct plan p = {.worker = c->words.worker, .host = getpid(), .err = -1};
	char *tmp;

	if (!worker_usable(c))
		return -1;
	if (!channels(sockets, control)) {
		close_all(sockets);
		close_all(control);
		c->reason = "no descriptors are left for the worker: raise RLIMIT_NOFILE";
		return -1;
	}
	if (c->words.log_stderr && host_stderr_usable())
		p.err = STDERR_FILENO;
	p.socket = sockets[1];
	p.control = control[1];
	tmp = environment(&p);
	c->worker = (struct worker){.waiter = launch(&p), .socket = sockets[0], .control = control[0]};
	free(tmp);
	(void)close(sockets[1]);
	(void)close(control[1]);
	if (c->worker.waiter > 0)
		return 0;
	c->reason = "cannot start a process";
	return -1;
}

/* await reaps the waiter. It ends by itself within milliseconds; should the
 * kernel hold one of its children for good, the host goes on without it. */
static void await(pid_t waiter)
{
	int pidfd = (int)syscall(SYS_pidfd_open, waiter, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t end = now_ms() + 5000, left = 5000;

	while (left > 0 && waitpid(waiter, NULL, (int)__WCLONE | WNOHANG) == 0) {
		/* Without pidfds, look every millisecond. */
		(void)poll(&p, 1, pidfd >= 0 ? (int)left : 1);
		left = end - now_ms();
	}
	if (pidfd >= 0)
		(void)close(pidfd);
}

void worker_stop(struct call *c)
{
	struct worker *w = &c->worker;

	/* A byte, since another child of the host may hold a copy of our end
	 * and keep it from ever reading as closed. */
	if (w->control >= 0) {
		(void)send(w->control, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)close(w->control);
	}
	if (w->waiter > 0)
		await(w->waiter);
	if (w->socket >= 0)
		(void)close(w->socket);
	*w = (struct worker){.socket = -1, .control = -1};
}
