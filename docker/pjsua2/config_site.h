/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What this switch changes in pjproject's defaults. Installed as pjlib/include/pj/config_site.h.
 */

#define PJSUA_MAX_CALLS             1024
#define PJSUA_MAX_CONF_PORTS        (PJSUA_MAX_CALLS + 16)
#define PJSUA_MAX_ACC               256
#define PJ_IOQUEUE_MAX_HANDLES      4096
#define PJSIP_MAX_TRANSPORTS        4000
#define PJSIP_TPMGR_HTABLE_SIZE     1023
#define PJSIP_MAX_TSX_COUNT         (64 * 1024 - 1)
#define PJSIP_MAX_DIALOG_COUNT      (8 * 1024 - 1)
#define PJSIP_MAX_PKT_LEN           8000
#define PJ_HAS_IPV6                 1
#define PJMEDIA_HAS_VIDEO           0
#define PJ_LOG_MAX_LEVEL            3
