use super::*;

/// The few instructions that the program uses, as the kernel runs them.
fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | kind as u32, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0usize;
    loop {
        let Instruction { code, registers: names, offset, immediate } = program[at];
        let (dst, src) = (usize::from(names & 0xf), usize::from(names >> 4));
        let wide = i64::from(immediate).cast_unsigned();
        match code {
            LDX_W => {
                assert_eq!(src, 1, "loads are from the context");
                registers[dst] = u64::from(context[usize::try_from(offset).unwrap() / 4]);
            }
            ADD_K => registers[dst] = registers[dst].wrapping_add(wide),
            AND_K => registers[dst] &= wide,
            AND_X => registers[dst] &= registers[src],
            OR_X => registers[dst] |= registers[src],
            XOR_X => registers[dst] ^= registers[src],
            XOR32_K => registers[dst] = (registers[dst] ^ wide) & 0xffff_ffff,
            RSH_K => registers[dst] >>= wide,
            ARSH_K => registers[dst] = (registers[dst].cast_signed() >> wide).cast_unsigned(),
            MOV_K => registers[dst] = wide,
            MOV_X => registers[dst] = registers[src],
            EXIT => return registers[0] == 1,
            _ => panic!("unknown instruction {code:#x}"),
        }
        at += 1;
    }
}

fn rules(json: &str) -> Rules {
    let list: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
    Rules::new(&list).unwrap()
}

/// The definition: each kind of access is decided by the last rule that matches; nothing matches: deny.
fn defined(rules: &Rules, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let device = Device { kind: Some(kind), major: Some(major), minor: Some(minor) };
    [1u8, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let last = rules.0.iter().rev().find(|r| r.device.covers(device) && r.access.0 & bit != 0);
        last.is_some_and(|rule| rule.allow)
    })
}

/// As the kernel's v1 list decides (devcgroup_check_permission): one exception must match it all.
fn listed(list: &List, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let device = Device { kind: Some(kind), major: Some(major), minor: Some(minor) };
    if list.allow {
        !list.exceptions.iter().any(|(e, a)| e.covers(device) && a.0 & access != 0)
    } else {
        list.exceptions.iter().any(|(e, a)| e.covers(device) && a.covers(Access(access)))
    }
}

const R: u8 = 2;
const W: u8 = 4;
const M: u8 = 1;

const DOCKER: &str = r#"[{"allow":false,"access":"rwm"},
    {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
    {"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"},
    {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]"#;

#[test]
fn deny_all_still_allows_the_default_devices() {
    for json in [r#"[{"allow":false,"access":"rwm"}]"#, "[]"] {
        let program = rules(json).program();
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)] {
            assert!(run(&program, Kind::Char, major, minor, R | W | M), "{major}:{minor}");
        }
        // Any node may be made, none of the others opened: not the host's console, memory or disks.
        for (kind, major, minor) in [(Kind::Char, 5, 1), (Kind::Char, 1, 1), (Kind::Block, 8, 0)] {
            assert!(run(&program, kind, major, minor, M));
            for access in [R, W, R | W, R | M] {
                assert!(!run(&program, kind, major, minor, access), "{major}:{minor} {access}");
            }
        }
    }
}

#[test]
fn the_program_does_what_the_rules_say() {
    let lists = [
        DOCKER,
        "[]",
        r#"[{"allow":true,"access":"rwm"}]"#,
        r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"access":"w"}]"#,
        r#"[{"allow":true,"type":"c","access":"r"},{"allow":false,"type":"c","major":10,"minor":229,"access":"rw"}]"#,
        r#"[{"allow":true,"type":"a","major":8,"minor":1,"access":"r"},{"allow":true,"type":"b","major":8,"access":"w"}]"#,
        r#"[{"allow":true,"type":"b","major":8,"minor":1,"access":"rwm"},{"allow":false,"access":"rwm"}]"#,
        r#"[{"allow":true,"type":"c","major":4294967295,"minor":2147483648,"access":"rw"}]"#,
    ];
    for json in lists {
        let rules = rules(json);
        let program = rules.program();
        for kind in [Kind::Block, Kind::Char] {
            for major in [0, 1, 5, 8, 10, 136, u32::MAX] {
                for minor in [0, 1, 3, 229, 1 << 31] {
                    for access in 1..=7 {
                        let expected = defined(&rules, kind, major, minor, access);
                        let case = format!("{json} {kind:?} {major}:{minor} {access}");
                        assert_eq!(run(&program, kind, major, minor, access), expected, "{case}");
                        // Several exceptions do not add up on v1: it may deny more, never less.
                        if let Ok(list) = rules.list() {
                            assert!(!listed(&list, kind, major, minor, access) || expected, "v1 {case}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn duplicates_of_the_defaults_cost_nothing() {
    let bare = rules("[]").program().len();
    let docker = rules(DOCKER).program().len();
    // 5:1 is the only rule of Docker's list that the defaults do not decide; 10:229's denial is
    // decided by nothing else but only takes what nobody gave. A rule is at most 13 instructions.
    assert!(docker <= bare + 2 * 13, "{docker} against {bare}");
}

#[test]
fn v1_refuses_a_hole_in_a_wildcard() {
    let json = r#"[{"allow":true,"type":"c","access":"rw"},{"allow":false,"type":"c","major":10,"minor":229,"access":"w"}]"#;
    let error = rules(json).list().unwrap_err().to_string();
    assert!(error.contains("c 10:229 w out of c *:* rw"), "{error}");
}

#[test]
fn v1_writes_only_the_difference() {
    let target = rules(DOCKER).list().unwrap();
    let fresh = List::parse("a *:* rwm\n").unwrap();
    let writes = target.writes_from(&fresh);
    assert_eq!(writes[0], ("devices.deny", "a".to_owned()));
    assert!(writes.contains(&("devices.allow", "c 5:1 rwm".to_owned())));
    assert!(!writes.iter().any(|(_, rule)| rule.contains("10:229")));

    let text = "b *:* m\nc *:* m\nc 1:3 rwm\nc 1:5 rwm\nc 1:7 rwm\nc 1:8 rwm\nc 1:9 rwm\nc 5:0 rwm\nc 5:1 r\nc 5:2 rwm\nc 136:* rwm\nc 10:200 rwm\n";
    let current = List::parse(text).unwrap();
    assert_eq!(
        target.writes_from(&current),
        [("devices.allow", "c 5:1 wm".to_owned()), ("devices.deny", "c 10:200 rwm".to_owned())]
    );
    assert_eq!(target.writes_from(&target), []);

    let privileged = rules(r#"[{"allow":true,"access":"rwm"}]"#).list().unwrap();
    assert_eq!(privileged.writes_from(&fresh), []);
    assert_eq!(privileged.writes_from(&current), [("devices.allow", "a".to_owned())]);
}

/// config-linux.md#allowed-device-list: "the runtime MUST apply entries in the listed order".
#[test]
fn v1_writes_the_rules_in_the_order_of_the_list() {
    let json = r#"[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"},
        {"allow":true,"type":"b","major":8,"minor":20,"access":"rw"},
        {"allow":true,"type":"b","major":10,"minor":200,"access":"r"}]"#;
    let writes = rules(json).list().unwrap().writes_from(&List::parse("a *:* rwm\n").unwrap());
    let written: Vec<&str> = writes.iter().map(|(_, rule)| rule.as_str()).take(5).collect();
    assert_eq!(written, ["a", "c 10:229 rwm", "b 8:20 rw", "b 10:200 r", "c *:* m"]);
}

#[test]
fn bad_rules_are_refused() {
    for json in [
        r#"[{"allow":true,"access":"rx"}]"#,
        r#"[{"allow":true,"type":"p","access":"r"}]"#,
        r#"[{"allow":true,"type":"c","major":-2,"access":"r"}]"#,
        r#"[{"allow":true,"type":"c","major":1,"minor":4294967296,"access":"r"}]"#,
    ] {
        let list: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        Rules::new(&list).expect_err(json);
    }
}
