# SPDX-License-Identifier: BSD-3-Clause
# fish completion for mirrorctl(8). Verbs, options and what these take are what --help says, names of
# volumes and nodes are those of the configuration. Neither asks a daemon, so it never waits for one.

function __mirrorctl_help
    command mirrorctl $argv --help 2>/dev/null </dev/null
end

# VERB<tab>DESCRIPTION
function __mirrorctl_verbs
    set -l in_verbs no
    for line in (__mirrorctl_help)
        if test "$line" = Verbs:
            set in_verbs yes
        else if test $in_verbs = yes
            string replace -rf '^  ([a-z][a-z-]*) +(.*)$' '$1\t$2' -- $line
        end
    end
end

# OPTION<tab>WHAT IT TAKES<tab>DESCRIPTION, of the verb or of those that stand before one
function __mirrorctl_options
    set -l pending ''
    for line in (__mirrorctl_help $argv)
        if test -n "$pending"
            set -l described (string match -rg '^ {20,}([^ ].*)$' -- $line)
            printf '%s\t%s\n' $pending "$described"
            set pending ''
            test -n "$described"; and continue
        end
        set -l found (string match -r '^ +(?:-[a-zA-Z],)?(--[a-z][a-z-]*)(?: ([A-Z]+(?::\{[^}]*\})?))?( .*)?$' -- $line)
        or continue
        set -l taken (string match -rg '^ +(?:-[a-zA-Z],)?--[a-z-]+ ([A-Z]+(?::\{[^}]*\})?)(?: |$)' -- $line)
        set -l described (string match -rg '  +([^ ].*)$' -- (string replace -r '^ +' '' -- $line))
        set -l start (printf '%s\t%s' $found[2] "$taken")
        if test -n "$described"
            printf '%s\t%s\n' $start "$described"
        else
            set pending $start
        end
    end
    test -z "$pending"; or printf '%s\t\n' $pending
end

# The names of the tables [KIND.NAME] and [KIND."NAME"].
function __mirrorctl_names # node|volume CONFIG
    test -f "$argv[2]" -a -r "$argv[2]"; or return 0
    string match -rg '^\s*\[\s*'$argv[1]'\s*\.\s*["\']?([A-Za-z0-9._-]+)' <$argv[2]
end

function __mirrorctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l config /etc/mirrordisk/mirrordisk.toml
    set -q MIRRORDISK_CONFIG; and test -n "$MIRRORDISK_CONFIG"; and set config $MIRRORDISK_CONFIG
    set -l options (__mirrorctl_options)
    set -l option ''
    set -l wanted ''
    set -l verb ''
    set -l volume ''
    for word in $words[2..-1]
        if test -n "$wanted"
            test "$option" = --config; and set config (string replace -r '^~/' "$HOME/" -- $word)
            set wanted ''
        else if string match -q -- '-*' $word
            set option $word
            set wanted (string match -rg '^'(string escape --style=regex -- $word)'\t([^\t]+)\t' -- $options)
        else if test -z "$verb"
            set verb $word
            set options (__mirrorctl_options $verb)
        else
            set volume $word
        end
    end
    switch "$wanted"
        case FILE DIR PATH
            __fish_complete_path $current
        case NODE NAME
            __mirrorctl_names node $config
        case '*:{*'
            string match -rg '\{(.*)\}' -- $wanted | string split ,
        case ''
            if string match -q -- '-*' $current
                string replace -r '\t[^\t]*\t' '\t' -- $options
            else if test -z "$verb"
                __mirrorctl_verbs
            else if test -z "$volume"; and __mirrorctl_help $verb | string match -q 'Usage:*VOLUME*'
                __mirrorctl_names volume $config
            end
    end
end

complete -c mirrorctl -f -a '(__mirrorctl_complete)'
