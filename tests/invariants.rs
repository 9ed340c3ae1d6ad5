//! What the crates may use, held by what cargo says (the invariants of ARCHITECTURE.md).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

/// Rendering starts with these.
const RENDERING: [&str; 5] = ["bevy_render", "bevy_pbr", "bevy_winit", "bevy_gizmos", "winit"];

fn metadata(features: &[CargoOpt]) -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    for feature in features {
        command.features(feature.clone());
    }
    command.other_options(["--locked".to_owned(), "--offline".to_owned()]).exec().unwrap()
}

/// Names of everything `package` needs to run, itself aside. Test-only dependencies do not count.
fn needs(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let resolve = metadata.resolve.as_ref().unwrap();
    let mut open: Vec<&PackageId> = metadata.workspace_members.iter().filter(|id| names[id] == package).collect();
    assert_eq!(open.len(), 1, "{package} is not a member of the workspace");
    let mut seen: BTreeSet<&PackageId> = BTreeSet::new();
    while let Some(id) = open.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == *id).unwrap();
        for dependency in &node.deps {
            let counts = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if counts && seen.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[track_caller]
fn assert_free_of(metadata: &Metadata, package: &str, forbidden: &str) {
    let found: Vec<_> = needs(metadata, package)
        .into_iter()
        .filter(|name| {
            name == forbidden
                || name.starts_with(&format!("{forbidden}_"))
                || name.starts_with(&format!("{forbidden}-"))
        })
        .collect();
    assert!(found.is_empty(), "{package} must not need {forbidden}, and needs {found:?}");
}

#[test]
fn policy_knows_no_bevy_and_sim_knows_no_burn() {
    let metadata = metadata(&[]);
    assert_free_of(&metadata, "onestep_policy", "bevy");
    assert_free_of(&metadata, "onestep_sim", "burn");
    assert_free_of(&metadata, "onestep_sim", "onestep_policy");
    assert_free_of(&metadata, "onestep_sim", "onestep_learn");
    assert_free_of(&metadata, "onestep_policy", "onestep_sim");
    // They meet only in the contract.
    assert!(needs(&metadata, "onestep_sim").contains("onestep_agent"));
    assert!(needs(&metadata, "onestep_learn").contains("onestep_agent"));
}

#[test]
fn data_and_the_contract_stand_alone() {
    let metadata = metadata(&[]);
    for forbidden in ["bevy", "burn"] {
        assert_free_of(&metadata, "onestep_data", forbidden);
    }
    let contract = needs(&metadata, "onestep_agent");
    for allowed in contract.iter().filter(|name| name.starts_with("bevy") || name.starts_with("onestep")) {
        assert!(!RENDERING.contains(&allowed.as_str()), "onestep_agent must not need {allowed}");
        assert!(!allowed.starts_with("onestep"), "onestep_agent must not need {allowed}");
    }
    assert!(!contract.contains("bevy"), "onestep_agent takes bevy_ecs and bevy_app, not the whole engine");
}

#[test]
fn a_users_own_agent_needs_contract_and_learner_alone() {
    let metadata = metadata(&[]);
    for unneeded in ["onestep_sim", "onestep_record", "onestep_ui", "rapier3d"] {
        assert_free_of(&metadata, "onestep_learn", unneeded);
    }
}

#[test]
fn nothing_depends_on_the_user_interface() {
    let metadata = metadata(&[]);
    for member in metadata.workspace_packages() {
        let name = member.name.as_str();
        if name != "onestep_ui" && name != "onestep" {
            assert_free_of(&metadata, name, "onestep_ui");
        }
    }
}

#[test]
fn a_headless_build_has_no_rendering_crates() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    // What the facade itself asks for: other members of the workspace may switch features on in a whole build.
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--manifest-path", manifest, "--package", "onestep", "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}", "--locked", "--offline"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("onestep_sim"));
    for forbidden in RENDERING.into_iter().chain(["onestep_ui"]) {
        assert!(!names.contains(forbidden), "a build without `render` must not need {forbidden}");
    }
}

#[test]
fn there_is_one_wgpu() {
    let metadata = metadata(&[]);
    let versions: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == "wgpu")
        .map(|package| package.version.to_string())
        .collect();
    assert_eq!(versions.len(), 1, "Bevy and burn can share a device only with one wgpu, not {versions:?}");
}
