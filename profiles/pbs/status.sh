#!/bin/sh
# status.sh <job>: prints running, success or failed. PBS Pro and OpenPBS keep ended jobs (-x), Torque says them plainly.
for attempt in 1 2 3; do
  facts=$(qstat -x -f "$1" 2>/dev/null) || facts=""
  case "$facts" in *job_state*) ;; *) facts="" ;; esac
  case "$facts" in "" | "<"*) facts=$(qstat -f "$1" 2>/dev/null) || facts="" ;; esac # Torque's -x is XML
  [ -n "$facts" ] && break
  [ "$attempt" = 3 ] || sleep 5
done
state=$(printf '%s\n' "$facts" | sed -n 's/^[[:space:]]*job_state = //p')
code=$(printf '%s\n' "$facts" | sed -n 's/^[[:space:]]*[Ee]xit_status = //p')
case "$state" in
  F | C) [ "$code" = 0 ] && echo success || echo failed ;;
  "") echo failed ;; # forgotten by the server, three times
  *) echo running ;;
esac
