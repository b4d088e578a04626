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

