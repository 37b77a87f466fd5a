# Sourced by the copy of Redis' tests behind their own support files: tests/redis_suite/run.py.
#
# The tests set up their server with CONFIG, DEBUG and BGREWRITEAOF, which administer one server and which the proxy
# refuses. Here they go to every backend, past the proxy; all else goes to the proxy, DEBUG PROTOCOL as well,
# which is about replies. With no backends in SHARDPROXY_SUITE_BACKENDS the tests are left as they are.

namespace eval shardproxy {
    variable backends {}
    variable administers {config debug bgrewriteaof}
}

# Connections to all backends, made when first used, on the database that external tests use.
proc ::shardproxy::all {} {
    variable backends
    if {$backends eq {}} {
        foreach address $::env(SHARDPROXY_SUITE_BACKENDS) {
            lassign [split $address :] host port
            set backend [redis $host $port 1]
            if {!$::singledb} {
                $backend select 9
                $backend read
            }
            lappend backends $backend
        }
    }
    return $backends
}

proc ::shardproxy::wait_for_rewrites {} {
    foreach backend [all] {
        wait_for_condition 100 100 {
            [regexp {rewrite_in_progress:1|rewrite_scheduled:1} [$backend info persistence; $backend read]] == 0
        } else {
            error "a backend does not end writing its file"
        }
    }
}

# Sends a command to all backends at once, as DEBUG SLEEP must hold all of them together. Returns a pair:
# whether it failed everywhere, and the first reply of those that took it. (DEBUG OBJECT finds its key on some.)
proc ::shardproxy::administer {words} {
    if {[string tolower [lrange $words 0 1]] in {{debug loadaof} bgrewriteaof}} {
        wait_for_rewrites ;# the tests wait for the leaders only
    }
    foreach backend [all] {
        $backend {*}$words
    }
    set good {}
    set bad {}
    foreach backend [all] {
        if {[catch {$backend read} reply]} {
            lappend bad $reply
        } else {
            lappend good $reply
        }
    }
    if {[llength $good]} {
        return [list 0 [lindex $good 0]]
    }
    return [list 1 [lindex $bad 0]]
}

# Tests of scripts ask with PING whether a script keeps the server busy. The proxy answers PING itself, so there
# the backends are asked first.
proc ::shardproxy::expect_busy {id method argv} {
    set is_asked [expr {[string equal -nocase $method ping] && $argv eq {} && !$::redis::deferred($id)
        && $::redis::blocking($id) && [regexp {unit/(scripting|functions)} $::curfile]}]
    if {!$is_asked} {
        return
    }
    set busy {}
    foreach backend [all] {
        $backend ping
        if {[catch {$backend read} error] && [string match BUSY* $error]} {
            set busy $error
        }
    }
    if {$busy ne {}} {
        return -code error $busy
    }
}

if {$::env(SHARDPROXY_SUITE_BACKENDS) ne {}} {
    rename ::redis::__dispatch__raw__ ::redis::__dispatch__to_proxy__

    proc ::redis::__dispatch__raw__ {id method argv} {
        set is_ours [expr {[string tolower $method] in $::shardproxy::administers
            && ![string equal -nocase [lindex $argv 0] protocol] && [lindex $::redis::addr($id) 1] == $::port && $::redis::blocking($id)}]
        if {!$is_ours} {
            ::shardproxy::expect_busy $id $method $argv
            return [uplevel 1 [list ::redis::__dispatch__to_proxy__ $id $method $argv]]
        }
        lassign [::shardproxy::administer [list $method {*}$argv]] failed reply
        if {$::redis::deferred($id)} {
            # The reply is read later, in its order among others.
            return [::redis::__dispatch__to_proxy__ $id echo [list $reply]]
        }
        if {$failed} {
            return -code error $reply
        }
        return $reply
    }
}

# With --durable an error outside of a test ends its block of tests, of which nobody is told.
rename run_external_server_test ::shardproxy::run_external_server_test

proc run_external_server_test {code overrides} {
    set reported "if {\[catch {$code} message\]} {
        send_data_packet \$::test_server_fd err \"(outside of tests) in \$::curfile\\n\$message\"
        error \$message \$::errorInfo
    }"
    uplevel 1 [list ::shardproxy::run_external_server_test $reported $overrides]
}
