/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A PAM application without a runtime of its own, to see what calls leave in a
 * process. Usage: grow CONFDIR SERVICE CALLS. It makes that many calls of
 * authenticate, ten in each transaction, and prints after a tenth of them and
 * at the end: calls, successes, resident kB, threads, descriptors, children,
 * SIGCHLDs.
 */
#include <dirent.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t sigchlds;

static void count_sigchld(int sig)
{
	(void)sig;
	sigchlds++;
}

/* entries counts what is in a folder of /proc. */
static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = -2; /* . and .. */

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

static int children(void)
{
	FILE *f = fopen("/proc/thread-self/children", "r");
	int pid, n = 0;

	while (f != NULL && fscanf(f, "%d", &pid) == 1)
		n++;
	if (f != NULL)
		fclose(f);
	return n;
}

static long resident_kb(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long size, resident = 0;

	if (f == NULL || fscanf(f, "%ld %ld", &size, &resident) != 2)
		abort();
	fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void report(int calls, int successes)
{
	/* One descriptor is the folder's own. */
	printf("%d %d %ld %d %d %d %d\n", calls, successes, resident_kb(), entries("/proc/self/task"),
	       entries("/proc/self/fd") - 1, children(), (int)sigchlds);
	fflush(stdout);
}

static int converse(int n, const struct pam_message **msg, struct pam_response **resp, void *data)
{
	(void)msg;
	(void)data;
	*resp = calloc((size_t)n, sizeof(**resp));
	return *resp != NULL ? PAM_SUCCESS : PAM_BUF_ERR;
}

int main(int argc, char **argv)
{
	struct pam_conv conv = {converse, NULL};
	int total = argc == 4 ? atoi(argv[3]) : 0, successes = 0;

	if (total < 20)
		return 2;
	signal(SIGCHLD, count_sigchld);
	for (int calls = 0; calls < total;) {
		pam_handle_t *pamh = NULL;

		if (pam_start_confdir(argv[2], "alice", &conv, argv[1], &pamh) != PAM_SUCCESS)
			return 1;
		for (int i = 0; i < 10; i++) {
			if (pam_authenticate(pamh, 0) == PAM_SUCCESS)
				successes++;
			if (++calls == total / 10)
				report(calls, successes);
		}
		pam_end(pamh, PAM_SUCCESS);
	}
	report(total, successes);
	return 0;
}
