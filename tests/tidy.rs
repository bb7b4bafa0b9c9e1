//! What no compiler checks: the arrows between the modules of the service, the headers, the migrations, and words that have no
//! place in this tree. A file that breaks a promise of the architecture fails here by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// Each module of the service and the other modules of it that it may use. The crates' arrows are cargo's to keep.
const ARROWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("fresh", &[]),
    ("store", &[]),
    ("engine", &["store", "clock"]),
    ("audit", &["projector", "store"]),
    ("finance", &[]),
    ("import", &["store"]),
    ("projector", &["store"]),
    ("feed", &[]),
    ("refusals", &["clock", "store"]),
    ("access", &["store", "clock"]),
    ("policies", &["clock", "engine", "fresh"]),
    ("http", &["access", "audit", "clock", "engine", "feed", "finance", "fresh", "projector", "refusals"]),
    ("config", &["access", "refusals", "store"]),
    (
        "node",
        &["access", "audit", "clock", "config", "engine", "feed", "http", "policies", "projector", "refusals", "store"],
    ),
    (
        "cli",
        &[
            "access",
            "audit",
            "clock",
            "config",
            "engine",
            "finance",
            "fresh",
            "http",
            "import",
            "node",
            "projector",
            "store",
        ],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `directory` with this extension, except what is built.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && !name.starts_with("tallytree-data") {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|has| has == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn modules_of_the_service_use_only_what_their_arrows_allow() {
    let mut wrong = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let relative = shown(&path);
        let module = relative.split('/').nth(1).unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{relative}: module {module} has no arrows in tests/tidy.rs"));
            continue;
        };
        // A unit test may ask its neighbours for help; what it stands beside may not.
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let known = ARROWS.iter().any(|(name, _)| *name == used);
                if known && used != module && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{relative}:{}: {module} may not use {used}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_domain_knows_no_database_no_network_and_no_clock() {
    let manifest = read(&root().join("aggregates/Cargo.toml"));
    for forbidden in ["sqlx", "rusqlite", "axum", "tokio", "hyper", "rand", "tracing"] {
        assert!(!manifest.contains(forbidden), "aggregates/Cargo.toml names {forbidden}");
    }
    for path in files(&root().join("aggregates/src"), "rs") {
        let text = read(&path);
        for forbidden in ["SystemTime", "Instant::now", "Utc::now", "now_v7", "std::fs::read(", "std::net"] {
            assert!(!text.contains(forbidden), "{} uses {forbidden}", shown(&path));
        }
    }
    assert!(!read(&root().join("projections/Cargo.toml")).contains("axum"), "projections know no HTTP");
}

#[test]
fn every_rust_file_begins_with_what_it_is() {
    for directory in ["src", "aggregates/src", "projections/src", "tests", "benches"] {
        for path in files(&root().join(directory), "rs") {
            assert!(read(&path).starts_with("//!"), "{} has no module header", shown(&path));
        }
    }
}

#[test]
fn migrations_say_why_beside_each_table() {
    let migrations = files(&root().join("migrations"), "sql");
    assert!(!migrations.is_empty());
    for path in migrations {
        let text = read(&path);
        assert!(text.starts_with("--"), "{} does not begin with what it is", shown(&path));
        assert!(!text.contains("CREATE TABLE"), "{}: SQL is lower case", shown(&path));
    }
}

/// What a set of migrations leaves: each table with its columns in order, each index with what it is on.
fn schema(folder: &str) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for path in files(&root().join(folder), "sql") {
        let text: Vec<String> =
            read(&path).lines().filter(|line| !line.trim_start().starts_with("--")).map(str::to_owned).collect();
        for statement in text.join("\n").split(';').map(|statement| statement.replace(" collate \"C\"", "")) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            match words.as_slice() {
                ["drop", "table", name] => left.retain(|known| !known.starts_with(&format!("{name}("))),
                ["create", "table", name, ..] => {
                    let (_, body) = statement.split_once('(').unwrap();
                    // A column to a line; its type is each database's own.
                    let columns = body.lines().filter_map(|line| {
                        let line = line.trim().trim_end_matches(',');
                        let words: Vec<&str> = line.split_whitespace().collect();
                        let (name, nullable) = (*words.first()?, !line.contains("not null"));
                        match name {
                            "primary" | "unique" | "check" => Some(line.trim_end_matches(')').to_owned()),
                            name if name.starts_with(')') => None,
                            name => Some(format!("{name}{}", if nullable { "?" } else { "" })),
                        }
                    });
                    left.push(format!("{name}({})", columns.collect::<Vec<_>>().join(", ")));
                }
                ["create", "index" | "unique", ..] => left.push(words.join(" ")),
                _ => {}
            }
        }
    }
    left.sort();
    left
}

#[test]
fn the_read_models_are_the_same_tables_on_both_databases() {
    let names = |folder: &str| -> Vec<String> {
        let paths = files(&root().join(folder), "sql");
        paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let (sqlite, postgres) = ("migrations/sqlite/views", "migrations/postgres/views");
    assert_eq!(names(sqlite), names(postgres), "the same numbers");
    let (left, right) = (schema(sqlite), schema(postgres));
    assert!(
        left.len() > 40 && left.iter().any(|one| one.starts_with("wallets(number, reseller_id, balance, ")),
        "{left:#?}"
    );
    for one in &left {
        assert!(right.contains(one), "only SQLite has {one}");
    }
    for one in &right {
        assert!(left.contains(one), "only PostgreSQL has {one}");
    }
}

#[test]
fn nothing_is_left_undone_and_no_machine_is_named() {
    // Spelled apart, so that this file does not name them.
    let forbidden = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["dbg", "!("].concat(),
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["index.cra", "tes.io"].concat(),
    ];
    let mut paths = Vec::new();
    for extension in ["rs", "toml", "sql", "md", "json", "py", "sh"] {
        paths.extend(files(&root(), extension));
    }
    for path in paths {
        let text = read(&path);
        for word in &forbidden {
            assert!(!text.contains(word.as_str()), "{} holds {word}", shown(&path));
        }
    }
}
