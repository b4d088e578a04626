# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_berth_global_optspecs
    string join \n root= log= log-format= log-level= debug systemd-cgroup cgroup-manager= rootless= criu= v/version h/help
end

function __fish_berth_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_berth_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_berth_using_subcommand
    set -l cmd (__fish_berth_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c berth -n "__fish_berth_needs_command" -l root -d 'Directory of the containers\' state, on a tmpfs [default: /run/berth, or $XDG_RUNTIME_DIR/berth for a user]' -r -F
complete -c berth -n "__fish_berth_needs_command" -l log -d 'Append errors and warnings to this file' -r -F
complete -c berth -n "__fish_berth_needs_command" -l log-format -d 'Format of the log' -r -f -a "text\t'`time="…" level=error msg="…"`, as logrus prints it'
json\t'One object per line with `level`, `msg` and `time`'"
complete -c berth -n "__fish_berth_needs_command" -l log-level -d 'Lowest level that is logged' -r -f -a "debug\t'For whoever looks for a bug'
info\t'Nothing is wrong'
warning\t'Something was asked for that berth ignores, as the spec wants'
error\t'What was asked for was not done'"
complete -c berth -n "__fish_berth_needs_command" -l cgroup-manager -d 'Who makes the cgroup' -r -f -a "cgroupfs\t'Directories and files'
systemd\t'A transient scope'
disabled\t'No cgroup at all'"
complete -c berth -n "__fish_berth_needs_command" -l rootless -d 'Ignore what only root may do with cgroups' -r
complete -c berth -n "__fish_berth_needs_command" -l criu -d 'Accepted and ignored, as by runc: the criu that is found in $PATH is used' -r -F
complete -c berth -n "__fish_berth_needs_command" -l debug -d 'Log debug messages too'
complete -c berth -n "__fish_berth_needs_command" -l systemd-cgroup -d 'Make the cgroup through systemd; cgroupsPath is then slice:prefix:name'
complete -c berth -n "__fish_berth_needs_command" -s v -l version -d 'Print the version'
complete -c berth -n "__fish_berth_needs_command" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_needs_command" -f -a "create" -d 'Create a container from a bundle; its process waits for start'
complete -c berth -n "__fish_berth_needs_command" -f -a "start" -d 'Start the process of a created container'
complete -c berth -n "__fish_berth_needs_command" -f -a "state" -d 'Print the state of a container as JSON'
complete -c berth -n "__fish_berth_needs_command" -f -a "kill" -d 'Send a signal to the first process of a container'
complete -c berth -n "__fish_berth_needs_command" -f -a "delete" -d 'Delete a container and all that was made for it'
complete -c berth -n "__fish_berth_needs_command" -f -a "run" -d 'Create a container, start it and wait for it'
complete -c berth -n "__fish_berth_needs_command" -f -a "exec" -d 'Run one more process in a container'
complete -c berth -n "__fish_berth_needs_command" -f -a "list" -d 'List the containers of this root'
complete -c berth -n "__fish_berth_needs_command" -f -a "pause" -d 'Stop all processes of a container'
complete -c berth -n "__fish_berth_needs_command" -f -a "resume" -d 'Let the processes of a paused container go on'
complete -c berth -n "__fish_berth_needs_command" -f -a "ps" -d 'Print the processes of a container'
complete -c berth -n "__fish_berth_needs_command" -f -a "update" -d 'Change the limits of a container'
complete -c berth -n "__fish_berth_needs_command" -f -a "events" -d 'Print what a container uses, and when it runs out of memory'
complete -c berth -n "__fish_berth_needs_command" -f -a "checkpoint" -d 'Write the processes of a container to an image'
complete -c berth -n "__fish_berth_needs_command" -f -a "restore" -d 'Make a container from an image'
complete -c berth -n "__fish_berth_needs_command" -f -a "mounts" -d 'Change what is mounted in a container'
complete -c berth -n "__fish_berth_needs_command" -f -a "spec" -d 'Write a config.json to start from'
complete -c berth -n "__fish_berth_needs_command" -f -a "check" -d 'Say what is wrong with a bundle, and what this host lacks for it'
complete -c berth -n "__fish_berth_needs_command" -f -a "features" -d 'Print what berth can do as JSON'
complete -c berth -n "__fish_berth_needs_command" -f -a "seccomp" -d 'Print what a seccomp profile does'
complete -c berth -n "__fish_berth_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c berth -n "__fish_berth_using_subcommand create" -s b -l bundle -d 'Directory with config.json' -r -F
complete -c berth -n "__fish_berth_using_subcommand create" -s f -l config -d 'File to use instead of the bundle\'s config.json' -r -F
complete -c berth -n "__fish_berth_using_subcommand create" -l console-socket -d 'Unix socket that receives the descriptor of the terminal\'s master' -r -F
complete -c berth -n "__fish_berth_using_subcommand create" -l pidfd-socket -d 'Unix socket that receives a pidfd of the container\'s first process' -r -F
complete -c berth -n "__fish_berth_using_subcommand create" -l pid-file -d 'File that gets the pid of the container\'s first process' -r -F
complete -c berth -n "__fish_berth_using_subcommand create" -l preserve-fds -d 'Pass N more descriptors to the container, after stdio and $LISTEN_FDS' -r
complete -c berth -n "__fish_berth_using_subcommand create" -l no-pivot -d 'Enter the rootfs without pivot_root, for a host that runs from its initramfs'
complete -c berth -n "__fish_berth_using_subcommand create" -l no-new-keyring -d 'Leave the container in the caller\'s session keyring'
complete -c berth -n "__fish_berth_using_subcommand create" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand start" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand state" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand kill" -s a -l all -d 'Send the signal to every process of the container'
complete -c berth -n "__fish_berth_using_subcommand kill" -s r -l regex -d 'The id is a regular expression: signal every container that matches'
complete -c berth -n "__fish_berth_using_subcommand kill" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand delete" -s f -l force -d 'Kill a container that still runs; succeed if there is none'
complete -c berth -n "__fish_berth_using_subcommand delete" -s r -l regex -d 'The id is a regular expression: delete every container that matches'
complete -c berth -n "__fish_berth_using_subcommand delete" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand run" -s b -l bundle -d 'Directory with config.json' -r -F
complete -c berth -n "__fish_berth_using_subcommand run" -s f -l config -d 'File to use instead of the bundle\'s config.json' -r -F
complete -c berth -n "__fish_berth_using_subcommand run" -l console-socket -d 'Unix socket that receives the descriptor of the terminal\'s master' -r -F
complete -c berth -n "__fish_berth_using_subcommand run" -l pidfd-socket -d 'Unix socket that receives a pidfd of the container\'s first process' -r -F
complete -c berth -n "__fish_berth_using_subcommand run" -l pid-file -d 'File that gets the pid of the container\'s first process' -r -F
complete -c berth -n "__fish_berth_using_subcommand run" -l preserve-fds -d 'Pass N more descriptors to the container, after stdio and $LISTEN_FDS' -r
complete -c berth -n "__fish_berth_using_subcommand run" -l no-pivot -d 'Enter the rootfs without pivot_root, for a host that runs from its initramfs'
complete -c berth -n "__fish_berth_using_subcommand run" -l no-new-keyring -d 'Leave the container in the caller\'s session keyring'
complete -c berth -n "__fish_berth_using_subcommand run" -s d -l detach -d 'Return once the container is started'
complete -c berth -n "__fish_berth_using_subcommand run" -l keep -d 'Keep the container\'s state after its process has exited'
complete -c berth -n "__fish_berth_using_subcommand run" -l no-subreaper -d 'Leave orphans of the container to their next reaper'
complete -c berth -n "__fish_berth_using_subcommand run" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand exec" -l console-socket -d 'Unix socket that receives the descriptor of the terminal\'s master' -r -F
complete -c berth -n "__fish_berth_using_subcommand exec" -l pidfd-socket -d 'Unix socket that receives a pidfd of the process' -r -F
complete -c berth -n "__fish_berth_using_subcommand exec" -l cwd -d 'Working directory in the container' -r -F
complete -c berth -n "__fish_berth_using_subcommand exec" -s e -l env -d 'Set an environment variable, NAME=VALUE' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -s u -l user -d 'uid, or uid:gid' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -s g -l additional-gids -d 'A further group' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -s p -l process -d 'File with the process object of a config.json' -r -F
complete -c berth -n "__fish_berth_using_subcommand exec" -l pid-file -d 'File that gets the pid of the process' -r -F
complete -c berth -n "__fish_berth_using_subcommand exec" -l process-label -d 'SELinux label of the process' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -l apparmor -d 'AppArmor profile of the process' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -s c -l cap -d 'Add a capability' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -l preserve-fds -d 'Pass N more descriptors to the process, after stdio and $LISTEN_FDS' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -l cgroup -d 'Run in this sub-cgroup of the container, [CONTROLLER:]PATH' -r
complete -c berth -n "__fish_berth_using_subcommand exec" -s t -l tty -d 'Give the process a terminal'
complete -c berth -n "__fish_berth_using_subcommand exec" -s d -l detach -d 'Return once the process is started'
complete -c berth -n "__fish_berth_using_subcommand exec" -l no-new-privs -d 'Set no_new_privs'
complete -c berth -n "__fish_berth_using_subcommand exec" -l ignore-paused -d 'Allow a paused container'
complete -c berth -n "__fish_berth_using_subcommand exec" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand list" -s f -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'An array, for programs'"
complete -c berth -n "__fish_berth_using_subcommand list" -s q -l quiet -d 'Print ids only'
complete -c berth -n "__fish_berth_using_subcommand list" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand pause" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand resume" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand ps" -s f -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'An array, for programs'"
complete -c berth -n "__fish_berth_using_subcommand ps" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand update" -s r -l resources -d 'File with a linux.resources object, or - for stdin; all flags but the schemas are then ignored' -r -F
complete -c berth -n "__fish_berth_using_subcommand update" -l blkio-weight -d 'Weight of block IO, 10 to 1000' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-period -d 'Period of the CPU quota in microseconds, 0 for the default' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-quota -d 'CPU time per period in microseconds' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-burst -d 'CPU time that may be saved up for a burst, in microseconds' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-share -d 'CPU shares, relative to other cgroups' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-rt-period -d 'Period of the realtime limit in microseconds' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-rt-runtime -d 'Realtime CPU time per period in microseconds' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpuset-cpus -d 'CPUs to use' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpuset-mems -d 'Memory nodes to use' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l cpu-idle -d '1 puts the container into the idle class' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l memory -d 'Memory limit in bytes' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l memory-reservation -d 'Soft memory limit in bytes' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l memory-swap -d 'Memory and swap in bytes, -1 for no limit of swap' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l kernel-memory -d 'Obsolete kernel memory limit' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l kernel-memory-tcp -d 'Obsolete kernel memory limit of TCP buffers' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l pids-limit -d 'Number of processes' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l l3-cache-schema -d 'Shares of the L3 cache, like L3:0=7f0;1=1f, for the container\'s own class of linux.intelRdt' -r
complete -c berth -n "__fish_berth_using_subcommand update" -l mem-bw-schema -d 'Shares of the memory bandwidth, like MB:0=20;1=70' -r
complete -c berth -n "__fish_berth_using_subcommand update" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand events" -l interval -d 'Time between two statistics: 500ms, 5s, 1m30s' -r
complete -c berth -n "__fish_berth_using_subcommand events" -l stats -d 'Print the statistics once and exit'
complete -c berth -n "__fish_berth_using_subcommand events" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l image-path -d 'Directory of the image [default: checkpoint]' -r -F
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l work-path -d 'Directory of CRIU\'s log and work files [default: that of the image]' -r -F
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l manage-cgroups-mode -d 'How CRIU treats the cgroups' -r -f -a "soft\t'Restore the properties of cgroups that CRIU made'
full\t'Restore all cgroups and their properties'
strict\t'As full, and fail when one exists'
ignore\t'Leave cgroups alone'"
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l empty-ns -d 'Create a namespace of this type without restoring what is in it; "network" always is' -r
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l parent-path -d 'Directory of the previous image, for a chain of pre-dumps; relative to --image-path' -r -F
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l status-fd -d 'Descriptor that gets a NUL byte once lazy pages are served' -r
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l page-server -d 'ADDRESS:PORT of the page server' -r
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l tcp-established -d 'Allow established TCP connections'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l tcp-close -d 'Restore TCP connections as closed'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l ext-unix-sk -d 'Allow unix sockets whose peer is outside'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l shell-job -d 'Allow jobs of a shell'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l file-locks -d 'Handle file locks'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l auto-dedup -d 'Remove duplicates in the memory images'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l lazy-pages -d 'Copy memory on demand through userfaultfd'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l leave-running -d 'Leave the container running'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'Lose TCP connections that are just being made'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l link-remap -d 'Link files that were unlinked while open'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -l pre-dump -d 'Dump memory only and leave the container running'
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand restore" -l image-path -d 'Directory of the image [default: checkpoint]' -r -F
complete -c berth -n "__fish_berth_using_subcommand restore" -l work-path -d 'Directory of CRIU\'s log and work files [default: that of the image]' -r -F
complete -c berth -n "__fish_berth_using_subcommand restore" -l manage-cgroups-mode -d 'How CRIU treats the cgroups' -r -f -a "soft\t'Restore the properties of cgroups that CRIU made'
full\t'Restore all cgroups and their properties'
strict\t'As full, and fail when one exists'
ignore\t'Leave cgroups alone'"
complete -c berth -n "__fish_berth_using_subcommand restore" -l empty-ns -d 'Create a namespace of this type without restoring what is in it; "network" always is' -r
complete -c berth -n "__fish_berth_using_subcommand restore" -s b -l bundle -d 'Directory with config.json' -r -F
complete -c berth -n "__fish_berth_using_subcommand restore" -l console-socket -d 'Unix socket that receives the descriptor of the terminal\'s master' -r -F
complete -c berth -n "__fish_berth_using_subcommand restore" -l pid-file -d 'File that gets the pid of the container\'s first process' -r -F
complete -c berth -n "__fish_berth_using_subcommand restore" -l preserve-fds -d 'Give N more descriptors to the container, after stdio, for those that it had' -r
complete -c berth -n "__fish_berth_using_subcommand restore" -l lsm-profile -d 'LSM profile to use instead of the dumped one' -r
complete -c berth -n "__fish_berth_using_subcommand restore" -l lsm-mount-context -d 'LSM mount context to use instead of the dumped one' -r
complete -c berth -n "__fish_berth_using_subcommand restore" -l tcp-established -d 'Allow established TCP connections'
complete -c berth -n "__fish_berth_using_subcommand restore" -l tcp-close -d 'Restore TCP connections as closed'
complete -c berth -n "__fish_berth_using_subcommand restore" -l ext-unix-sk -d 'Allow unix sockets whose peer is outside'
complete -c berth -n "__fish_berth_using_subcommand restore" -l shell-job -d 'Allow jobs of a shell'
complete -c berth -n "__fish_berth_using_subcommand restore" -l file-locks -d 'Handle file locks'
complete -c berth -n "__fish_berth_using_subcommand restore" -l auto-dedup -d 'Remove duplicates in the memory images'
complete -c berth -n "__fish_berth_using_subcommand restore" -l lazy-pages -d 'Copy memory on demand through userfaultfd'
complete -c berth -n "__fish_berth_using_subcommand restore" -s d -l detach -d 'Return once the container is restored'
complete -c berth -n "__fish_berth_using_subcommand restore" -l no-subreaper -d 'Leave orphans of the container to their next reaper'
complete -c berth -n "__fish_berth_using_subcommand restore" -l no-pivot -d 'Has no effect: CRIU enters the rootfs in its own way'
complete -c berth -n "__fish_berth_using_subcommand restore" -l no-new-keyring -d 'Leave the container in the caller\'s session keyring'
complete -c berth -n "__fish_berth_using_subcommand restore" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand mounts; and not __fish_seen_subcommand_from add remove help" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand mounts; and not __fish_seen_subcommand_from add remove help" -f -a "add" -d 'Mount what the file lists'
complete -c berth -n "__fish_berth_using_subcommand mounts; and not __fish_seen_subcommand_from add remove help" -f -a "remove" -d 'Unmount what is at the destinations that the file lists'
complete -c berth -n "__fish_berth_using_subcommand mounts; and not __fish_seen_subcommand_from add remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from help" -f -a "add" -d 'Mount what the file lists'
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Unmount what is at the destinations that the file lists'
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c berth -n "__fish_berth_using_subcommand spec" -s b -l bundle -d 'Directory to write config.json to' -r -F
complete -c berth -n "__fish_berth_using_subcommand spec" -l rootless -d 'A config.json that runs without root'
complete -c berth -n "__fish_berth_using_subcommand spec" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand check" -s b -l bundle -d 'Directory with config.json, as for create' -r -F
complete -c berth -n "__fish_berth_using_subcommand check" -s f -l format -d 'How to print the findings' -r -f -a "text\t'Lines for people'
json\t'One object for programs'"
complete -c berth -n "__fish_berth_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c berth -n "__fish_berth_using_subcommand features" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and not __fish_seen_subcommand_from compile test help" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and not __fish_seen_subcommand_from compile test help" -f -a "compile" -d 'Print the filter that a profile becomes'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and not __fish_seen_subcommand_from compile test help" -f -a "test" -d 'Print what a profile does with a system call, and because of which rule'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and not __fish_seen_subcommand_from compile test help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from compile" -l arch -d 'The machine for which it is compiled [default: this one]' -r
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from compile" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from test" -l arch -d 'The architecture of the call [default: this one]' -r
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "compile" -d 'Print the filter that a profile becomes'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "test" -d 'Print what a profile does with a system call, and because of which rule'
complete -c berth -n "__fish_berth_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "create" -d 'Create a container from a bundle; its process waits for start'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "start" -d 'Start the process of a created container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "state" -d 'Print the state of a container as JSON'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "kill" -d 'Send a signal to the first process of a container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "delete" -d 'Delete a container and all that was made for it'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "run" -d 'Create a container, start it and wait for it'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "exec" -d 'Run one more process in a container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "list" -d 'List the containers of this root'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "pause" -d 'Stop all processes of a container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "resume" -d 'Let the processes of a paused container go on'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "ps" -d 'Print the processes of a container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "update" -d 'Change the limits of a container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "events" -d 'Print what a container uses, and when it runs out of memory'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "checkpoint" -d 'Write the processes of a container to an image'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "restore" -d 'Make a container from an image'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "mounts" -d 'Change what is mounted in a container'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "spec" -d 'Write a config.json to start from'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "check" -d 'Say what is wrong with a bundle, and what this host lacks for it'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "features" -d 'Print what berth can do as JSON'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "seccomp" -d 'Print what a seccomp profile does'
complete -c berth -n "__fish_berth_using_subcommand help; and not __fish_seen_subcommand_from create start state kill delete run exec list pause resume ps update events checkpoint restore mounts spec check features seccomp help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

# The ids of the containers of --root.
function __fish_berth_ids
    set -l words (commandline -opc)
    set -e words[1]
    argparse -s (__fish_berth_global_optspecs) -- $words 2>/dev/null
    or return
    set -l root
    set -q _flag_root
    and set root --root=$_flag_root
    berth $root list --quiet 2>/dev/null
end

complete -c berth -n "__fish_berth_using_subcommand start" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand state" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand kill" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand delete" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand exec" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand pause" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand resume" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand ps" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand update" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand events" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand checkpoint" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from add" -f -a "(__fish_berth_ids)"
complete -c berth -n "__fish_berth_using_subcommand mounts; and __fish_seen_subcommand_from remove" -f -a "(__fish_berth_ids)"
