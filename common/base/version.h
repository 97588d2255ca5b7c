/* The version of this tree, as programs, documents and logs give it. The Makefile says the number;
 * this is for what is compiled without it. */
#ifndef PENSTOCK_BASE_VERSION_H
#define PENSTOCK_BASE_VERSION_H

#ifndef PENSTOCK_VERSION
#define PENSTOCK_VERSION "0.1.0"
#endif

_Static_assert(sizeof(PENSTOCK_VERSION) > 1, "a build has a version");

#endif
