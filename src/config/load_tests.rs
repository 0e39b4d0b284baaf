use super::*;

fn with_env(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let missing = Flags::default();
    load(&missing, pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

#[test]
fn the_defaults_are_a_valid_configuration() {
    let config = with_env(&[]).unwrap();
    assert_eq!(config.listen.port(), 8470);
    assert_eq!(config.recordings.hosts, ["*.doubletick.io"]);
    assert_eq!(config.flags.call_overdue.as_secs(), 4 * 3600);
}

#[test]
fn every_key_is_documented() {
    let page = include_str!("../../docs/CONFIGURATION.md");
    for key in known_keys().keys() {
        assert!(page.contains(&format!("| `{key}` |")), "docs/CONFIGURATION.md does not name {key}");
    }
}

#[test]
fn variables_take_the_type_of_their_default() {
    let config = with_env(&[
        ("CALLVAULT_RECORDINGS__API_KEY", "12345"),
        ("CALLVAULT_RECORDINGS__HOSTS", "a.example, 127.0.0.1:80"),
        ("CALLVAULT_RECORDINGS__MAX_BYTES", "77"),
        ("CALLVAULT_METRICS_PUBLIC", "true"),
        ("PATH", "elsewhere"),
    ])
    .unwrap();
    assert_eq!(config.recordings.api_key.expose(), "12345");
    assert_eq!(config.recordings.hosts, ["a.example", "127.0.0.1:80"]);
    assert_eq!(config.recordings.max_bytes, 77);
    assert!(config.metrics_public);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let error = with_env(&[("CALLVAULT_RECORDINGS__API_KAY", "x")]).unwrap_err().to_string();
    assert!(error.contains("did you mean recordings.api_key?"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "[recordngs]\nmax_bytes = 1\n").unwrap();
    let flags = Flags { config: Some(path), ..Flags::default() };
    let error = load(&flags, std::iter::empty()).unwrap_err().to_string();
    assert!(
        error.contains("unknown configuration key recordngs") && error.contains("did you mean recordings"),
        "{error}"
    );
}

#[test]
fn errors_name_the_key_and_never_a_secret() {
    let error = with_env(&[("CALLVAULT_BOOTSTRAP__TOKENS", "admin=hunter2")]).unwrap_err().to_string();
    assert!(error.contains("at least 24") && !error.contains("hunter2"), "{error}");
    let error = with_env(&[("CALLVAULT_FLAGS__CALL_OVERDUE", "soon")]).unwrap_err().to_string();
    assert!(error.contains("flags.call_overdue"), "{error}");
    let error = with_env(&[("CALLVAULT_LISTEN", "nowhere")]).unwrap_err().to_string();
    assert!(error.contains("listen"), "{error}");
}

#[test]
fn a_broken_file_is_told_by_its_place_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let flags = Flags { config: Some(path.clone()), ..Flags::default() };
    for broken in ["api_key=\"hunter2\"hunter2\"", "api_key = hunter2", "api_key = \"hunter2", "[hunter2"] {
        std::fs::write(&path, format!("[recordings]\n{broken}\n")).unwrap();
        let error = load(&flags, std::iter::empty()).unwrap_err().to_string();
        assert!(error.contains("line 2, column ") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn only_postgresql_has_a_replica() {
    let both = |url, replica| {
        let pairs = [("CALLVAULT_DATABASE__URL", url), ("CALLVAULT_DATABASE__REPLICA_URL", replica)];
        with_env(&pairs).map(|config| config.database.replica_url.expose().to_owned())
    };
    let (server, other) = ("postgres://hunter2@one/archive", "postgresql://hunter2@two/archive");
    assert_eq!(both(server, other).unwrap(), other);
    assert_eq!(both(server, "").unwrap(), "");
    assert!(both("sqlite", other).unwrap_err().to_string().contains("only PostgreSQL has replicas"));
    let error = both(server, "two/hunter2").unwrap_err().to_string();
    assert!(error.contains("database.replica_url: give postgres://") && !error.contains("hunter2"), "{error}");
}

#[test]
fn thresholds_can_be_changed_for_a_look() {
    let flags = with_env(&[]).unwrap().flags;
    let set = |changes: &[&str]| thresholds_with(&flags, &changes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
    let changed =
        set(&["short_call_seconds=30", "flags.call_overdue = 2h", "business_hours.monday=09:00-17:00"]).unwrap();
    assert_eq!((changed.short_call_seconds, changed.call_overdue.as_secs()), (30, 7200));
    assert!(changed.business_hours.are_given());
    assert_eq!(set(&["repeated_short_calls.count=3"]).unwrap().repeated_short_calls.count, 3);
    assert_eq!(changed.long_call_seconds, flags.long_call_seconds);
    for (change, why) in [
        ("short_calls=3", "did you mean flags.short_call_seconds?"),
        ("short_call_seconds", "KEY=VALUE"),
        ("short_call_seconds=many", "no whole number"),
        ("short_call_seconds=9999", "must not be above"),
        ("business_hours.monday=9-5", "09:00-18:00"),
        ("repeated_short_calls.count=1", "no pattern"),
        ("listen=127.0.0.1:1", "unknown configuration key"),
    ] {
        let error = set(&[change]).unwrap_err().to_string();
        assert!(error.contains(why), "{change}: {error}");
    }
}

#[test]
fn samples_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let flags = Flags { config: Some(path.clone()), ..Flags::default() };
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(&flags, std::iter::empty()).map(|config| config.review)
    };
    let plan = |rest: &str| with(&format!("[[review.samples]]\nname = \"a\"\nby = \"agent\"\n{rest}\n"));
    assert_eq!(plan("percent = 2.5").unwrap().samples[0].wanted(41), 2);
    assert_eq!(plan("percent = 100").unwrap().samples[0].wanted(41), 41);
    assert_eq!(plan("number = 3").unwrap().samples[0].wanted(2), 2);
    for (rest, why) in [
        ("", "either percent or number"),
        ("percent = 1\nnumber = 1", "either percent or number"),
        ("percent = 0", "0.01 to 100"),
        ("percent = nan", "0.01 to 100"),
        ("number = 0", "above 0"),
        ("numbr = 1", "numbr"),
        ("number = 1\n[[review.samples]]\nname = \"a\"\nby = \"all\"\nnumber = 1", "two samples"),
        ("number = 1\n[[review.samples]]\nname = \"A b\"\nby = \"all\"\nnumber = 1", "no name"),
    ] {
        let error = plan(rest).unwrap_err().to_string();
        assert!(error.contains("review.samples") && error.contains(why), "{rest}: {error}");
    }
}

#[test]
fn the_region_is_a_country() {
    assert_eq!(with_env(&[("CALLVAULT_REGION", "GB")]).unwrap().region, "GB");
    for none in ["XX", "in", "IND", "", "I1"] {
        let error = with_env(&[("CALLVAULT_REGION", none)]).unwrap_err().to_string();
        assert!(error.contains("region: there is no such country"), "{none}: {error}");
    }
}

#[test]
fn a_missing_named_file_is_an_error() {
    let flags = Flags { config: Some("no-such-file.toml".into()), ..Flags::default() };
    assert!(matches!(load(&flags, std::iter::empty()), Err(ConfigError::File { .. })));
}
