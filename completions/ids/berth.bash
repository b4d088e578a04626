# Offers the ids of the containers of --root where one is expected, and else what _berth does.
_berth_and_ids() {
    _berth "$@"
    local word i verb="" root=() values="GLOBAL"
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $values == *" $word "* ]]; then
            # Its value is the next word; of --root=DIR the sign is a word too.
            [[ ${COMP_WORDS[i + 1]} != "=" ]] || ((i++))
            ((i++))
            [[ $word != --root ]] || root=(--root "${COMP_WORDS[i]}")
        elif [[ $word != -* ]]; then
            verb=${verb:+$verb }$word
            case $verb in
                CASES
                mounts) ;;
                # The id is there already, or none is expected.
                *) return 0 ;;
            esac
        fi
    done
    # A flag or the value of one is typed, or no verb yet.
    if [[ $i != "$COMP_CWORD" || $2 == -* || -z $verb || $verb == mounts ]]; then return 0; fi
    # Not by compgen -W, which would expand what stands in a state directory of somebody else's.
    COMPREPLY=()
    while IFS= read -r word; do
        if [[ $word == "$2"* ]]; then COMPREPLY+=("$word"); fi
    done < <("$1" "${root[@]}" list --quiet 2>/dev/null)
}

