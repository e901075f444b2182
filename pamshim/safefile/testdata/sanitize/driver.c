/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Opens files under ASan and UBSan and prints for each "ok" or the reason:
 *
 *	driver USE PATH [USE PATH]...
 *
 * where USE is read, run or strict. No other descriptor may stay open.
 */
#include "safefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum safefile_use use_of(const char *word)
{
	if (strcmp(word, "run") == 0)
		return SAFEFILE_RUN;
	return strcmp(word, "strict") == 0 ? SAFEFILE_STRICT : SAFEFILE_READ;
}

/* next is the lowest descriptor that is free. */
static int next(void)
{
	int fd = dup(0);

	(void)close(fd);
	return fd;
}

static void try(const char *use, const char *path)
{
	char *exact = malloc(strlen(path) + 1), *why = malloc(SAFEFILE_WHY);
	int before = next(), fd;

	if (exact == NULL || why == NULL)
		abort();
	memcpy(exact, path, strlen(path) + 1);
	memset(why, 'x', SAFEFILE_WHY);
	errno = 0;
	fd = safefile_open(exact, use_of(use), why);
	if ((fd < 0) != (why[0] != '\0') || (fd < 0 && errno == 0))
		abort();
	(void)printf("%s\n", fd < 0 ? why : "ok");
	if (fd >= 0 && ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0 || close(fd) != 0))
		abort();
	if (next() != before)
		abort();
	free(why);
	free(exact);
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2)
		try(argv[i], argv[i + 1]);
	return 0;
}
