# SPDX-License-Identifier: MIT
# Look for every library before giving up, so that one look at the message is enough.

m4_ifndef([PKG_CHECK_MODULES],
	[m4_fatal([pkg.m4 is missing: install the Debian package pkg-config and run autoreconf again])])

# WEFT_NEED(VARIABLE, MODULE-AND-VERSION, DEBIAN-PACKAGE)
# Sets VARIABLE_CFLAGS, VARIABLE_LIBS and VARIABLE_VERSION; notes what is missing.
AC_DEFUN([WEFT_NEED],
[PKG_CHECK_MODULES([$1], [$2],
	[have_[]m4_tolower([$1])=yes
	 $1_VERSION=`$PKG_CONFIG --modversion "m4_bpatsubst([$2], [ .*], [])"`],
	[have_[]m4_tolower([$1])=no
	 weft_missing="$weft_missing
    $2  (Debian package $3)"
	 weft_packages="$weft_packages $3"])])

# WEFT_NEED_REPORT: stop if anything that WEFT_NEED looked for is missing.
AC_DEFUN([WEFT_NEED_REPORT],
[AS_IF([test -n "$weft_missing"],
	[AC_MSG_ERROR([these libraries are missing or too old:
$weft_missing

  On Debian:  apt-get install$weft_packages
])])])
