/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A child of the host's own, and the ways in which hosts wait for theirs. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int sigchld;
static volatile pid_t reaped_pid; /* by the reaping handler */
static volatile int reaped_status, reaped_count;

static pid_t child;
static int release[2] = {-1, -1};
static pthread_t waits;

/* The thread of a host that, like login, waits for whatever ends first. */
static pid_t waited_pid;
static int waited_status;

static void *wait_for_any(void *data)
{
	(void)data;
	do
		waited_pid = wait(&waited_status);
	while (waited_pid < 0 && errno == EINTR);
	return NULL;
}

static void on_sigchld(int sig)
{
	int status, error = errno;
	pid_t pid;

	(void)sig;
	if (sigchld >= 0)
		sigchld++;
	while (host_reaps && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
		reaped_pid = pid;
		reaped_status = status;
		reaped_count++;
	}
	errno = error;
}

static void listen_to_children(void)
{
	struct sigaction sa = {.sa_handler = on_sigchld, .sa_flags = SA_RESTART};

	if (host_ignores)
		sa.sa_handler = SIG_IGN;
	if (host_deaf)
		sa.sa_handler = SIG_DFL;
	if (sigaction(SIGCHLD, &sa, NULL) != 0)
		fail("sigaction");
}

void child_begin(void)
{
	pid_t host = getpid();
	char c;

	if (pipe2(release, O_CLOEXEC) != 0)
		fail("pipe");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != host)
			_exit(1);
		(void)close(CHANNEL);
		(void)close(release[1]);
		while (read(release[0], &c, 1) < 0 && errno == EINTR)
			;
		_exit(EXIT_CODE);
	}
	if (sigchld >= 0)
		sigchld = 0;
	reaped_count = 0;
	listen_to_children();
	if (host_waits && pthread_create(&waits, NULL, wait_for_any, NULL) != 0)
		fail("thread");
}

static void report(const char *how, pid_t pid, int status)
{
	if (pid == child && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CODE)
		say("child right, %s", how);
	else
		say("child wrong, %s: pid %d status %#x (%s), it was %d", how, (int)pid, (unsigned)status,
		    pid < 0 ? strerror(errno) : "", (int)child);
}

void child_end(void)
{
	int status = 0;
	pid_t pid;

	if (write(release[1], "", 1) != 1)
		fail("write");
	if (host_waits) {
		(void)pthread_join(waits, NULL);
		report("waited for any", waited_pid, waited_status);
	} else if (host_reaps) {
		for (int i = 0; i < 5000 && reaped_count == 0; i++)
			(void)usleep(1000);
		report(reaped_count == 1 ? "reaped by the handler" : "reaped with others", reaped_pid, reaped_status);
	} else {
		do
			pid = waitpid(child, &status, 0);
		while (pid < 0 && errno == EINTR);
		if (host_ignores && pid < 0 && errno == ECHILD)
			say("child right, ignored");
		else
			report("waited for", pid, status);
	}
	(void)close(release[0]);
	(void)close(release[1]);
}
