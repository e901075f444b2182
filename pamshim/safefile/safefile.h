/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Opening files that decide who may log in. */
#ifndef AUTHN_SAFEFILE_H
#define AUTHN_SAFEFILE_H

enum { SAFEFILE_WHY = 512 }; /* bytes of a reason */

enum safefile_use {
	SAFEFILE_READ,  /* open for reading, never blocking */
	SAFEFILE_RUN,   /* open O_PATH; must be executable for us */
	SAFEFILE_STRICT /* as READ, and no symbolic link on the way either */
};

/*
 * safefile_open opens the regular file path for use, if nobody but root or the
 * effective user can change it: the file, every folder above it, and every
 * symbolic link on the way belong to root or to the effective user, and none
 * is writable by group or others (a folder may be where it is sticky). The
 * file itself must not be a symbolic link. Nothing but a regular file is ever
 * opened: a FIFO or a device is looked at only.
 *
 * Returns a descriptor with O_CLOEXEC, which the caller closes, or -1 with
 * errno set and a sentence in why that names what is wrong and how to mend it.
 * Keeps nothing in static memory and calls nothing that does.
 */
int safefile_open(const char *path, enum safefile_use use, char why[SAFEFILE_WHY]);

#endif
