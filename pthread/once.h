/* SPDX-License-Identifier: MIT
 * Run something once: pthread_once, for call_once and keys.c too.
 */
#ifndef WEFT_PTHREAD_ONCE_H
#define WEFT_PTHREAD_ONCE_H

void weft__once(int *control, void (*routine)(void));

#endif
