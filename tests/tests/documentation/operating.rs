//! `docs/operating.md` and `docs/api.md` name every state, reason and refusal that the code
//! has, and no metric that it has not.

use super::source;
use phonefleet_controller::metrics::{Metrics, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprMatch, ImplItemFn, Item, ItemConst, ItemMod, Lit};

const OPERATING: &str = "docs/operating.md";
const API: &str = "docs/api.md";

/// Where reasons, waits and refusals come from.
const SOURCES: [&str; 3] = ["agent/src", "controller/src", "protocol/src"];

/// Calls whose first argument is a code: a device's or recording's reason, a hindrance that
/// is told as one, and what a saga waits for.
const CALLS: [(&str, &str); 4] =
    [("Reason", "new"), ("Hindrance", "trouble"), ("StepOutcome", "Wait"), ("StepOutcome", "WaitUntil")];

/// Enums whose names people see, by their file.
const STATES: [(&str, &str); 6] = [
    ("controller/src/store/device.rs", "Status"),
    ("controller/src/store/saga.rs", "SagaStatus"),
    ("controller/src/store/recording.rs", "Status"),
    ("controller/src/fleet/presence.rs", "HostStatus"),
    ("protocol/src/recording.rs", "EndCause"),
    ("agent/src/recording/mp4.rs", "Flaw"),
];

fn is_code(text: &str) -> bool {
    text.len() > 2
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Collects codes out of one file, its tests left out.
#[derive(Default)]
struct Codes {
    constants: BTreeMap<String, String>,
    named: BTreeSet<String>,
    found: BTreeSet<String>,
    in_problem: bool,
}

fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()).filter(|text| is_code(text)),
            _ => None,
        },
        Expr::MethodCall(call) => literal(&call.receiver),
        _ => None,
    }
}

impl Codes {
    fn argument(&mut self, expression: &Expr) {
        match expression {
            Expr::Path(path) => {
                if let Some(name) = path.path.get_ident() {
                    self.named.insert(name.to_string());
                }
            }
            // `Wait(if online { "A" } else { "B" })`
            Expr::If(branches) => {
                for statement in &branches.then_branch.stmts {
                    if let syn::Stmt::Expr(value, None) = statement {
                        self.argument(value);
                    }
                }
                if let Some((_, other)) = &branches.else_branch {
                    self.argument(other);
                }
            }
            Expr::Block(block) => {
                for statement in &block.block.stmts {
                    if let syn::Stmt::Expr(value, None) = statement {
                        self.argument(value);
                    }
                }
            }
            other => self.found.extend(literal(other)),
        }
    }
}

impl<'ast> Visit<'ast> for Codes {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_const(&mut self, constant: &'ast ItemConst) {
        if let Some(code) = literal(&constant.expr) {
            self.constants.insert(constant.ident.to_string(), code);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func
            && let Some(last) = path.path.segments.last()
            && let Some(owner) = path.path.segments.iter().nth_back(1)
            && CALLS.iter().any(|(of, name)| owner.ident == of && last.ident == name)
            && let Some(first) = call.args.first()
        {
            self.argument(first);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_assign(&mut self, assign: &'ast syn::ExprAssign) {
        // `saga.wait_reason = Some("…".to_owned())`
        if let (Expr::Field(field), Expr::Call(some)) = (&*assign.left, &*assign.right)
            && matches!(&field.member, syn::Member::Named(name) if name == "wait_reason")
            && let Some(first) = some.args.first()
        {
            self.argument(first);
        }
        visit::visit_expr_assign(self, assign);
    }

    fn visit_expr_match(&mut self, matched: &'ast ExprMatch) {
        if self.in_problem {
            for arm in &matched.arms {
                let body = match &*arm.body {
                    Expr::Block(block) => match block.block.stmts.last() {
                        Some(syn::Stmt::Expr(value, None)) => value,
                        _ => continue,
                    },
                    other => other,
                };
                if let Expr::Tuple(row) = body
                    && let Some(first) = row.elems.first()
                {
                    self.found.extend(literal(first));
                }
            }
        }
        visit::visit_expr_match(self, matched);
    }
}

/// Rust files below a folder of the repository, tests left out.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(source::repository().join(&folder)).expect("a folder of sources");
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}/{name}");
            if entry.path().is_dir() {
                folders.push(path);
            } else if entry.path().extension().is_some_and(|kind| kind == "rs") && !name.ends_with("tests.rs")
            {
                found.push(path);
            }
        }
    }
    found
}

fn page(path: &str) -> String {
    std::fs::read_to_string(source::repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands in backquotes in a page.
fn quoted(page: &str) -> BTreeSet<&str> {
    page.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_reason_and_wait_is_explained() {
    let mut all = Codes::default();
    for path in SOURCES.iter().flat_map(|folder| files(folder)) {
        if !path.ends_with("api/problem.rs") {
            all.visit_file(&source::parse(&path));
        }
    }
    let mut codes = all.found;
    codes.extend(all.named.iter().filter_map(|name| all.constants.get(name).cloned()));
    assert!(codes.len() > 35, "the search has lost its way: {codes:?}");
    for known in ["BOOT_TIMEOUT", "CRASH_LOOP", "ADB_UNRESPONSIVE", "HOST_UNREACHABLE", "RETRY_PAUSE"] {
        assert!(codes.contains(known), "the search does not find {known}: {codes:?}");
    }
    let page = page(OPERATING);
    let explained = quoted(&page);
    let missing: Vec<_> = codes.iter().filter(|code| !explained.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "{OPERATING} must say what these mean and what to do: {missing:?}");
}

#[test]
fn every_state_is_explained() {
    let page = page(OPERATING);
    let explained = quoted(&page);
    for (path, name) in STATES {
        let variants = source::variants(&source::parse(path), name);
        let variants = variants.unwrap_or_else(|| panic!("{path} has no enum {name} any more"));
        for (variant, _) in variants {
            let shown = shout(&variant);
            assert!(explained.contains(shown.as_str()), "{OPERATING} does not explain {shown} ({path})");
        }
    }
}

/// `NeedsAttention` as `NEEDS_ATTENTION`.
fn shout(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[test]
fn every_refusal_and_every_call_is_in_the_guide() {
    let file = source::parse("controller/src/api/problem.rs");
    let mut codes = Codes { in_problem: true, ..Codes::default() };
    for item in &file.items {
        if let Item::Impl(block) = item {
            for method in &block.items {
                if let syn::ImplItem::Fn(ImplItemFn { sig, block, .. }) = method
                    && sig.ident == "row"
                {
                    codes.visit_block(block);
                }
            }
        }
    }
    assert!(codes.found.len() > 20, "the search has lost its way: {:?}", codes.found);
    let page = page(API);
    let explained = quoted(&page);
    let missing: Vec<_> = codes.found.iter().filter(|code| !explained.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "{API} must say what these mean: {missing:?}");

    let router =
        std::fs::read_to_string(source::repository().join("controller/src/api/mod.rs")).expect("api");
    for path in router.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        // As a person writes it: `/devices/$device/start`, or `/sagas/{id}/resume`.
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let mentioned = page.lines().any(|line| {
            line.split("$API/").skip(1).chain(line.split("`/").skip(1)).chain(line.split("T /").skip(1)).any(
                |rest| {
                    let end = rest.find([' ', '`', '"', ')', '|', '?', ',']).unwrap_or(rest.len());
                    let said: Vec<&str> = rest[..end].split('/').collect();
                    said.len() == parts.len()
                        && said.iter().zip(&parts).all(|(said, part)| {
                            part.starts_with('{')
                                || said == part
                                || *said == "$verb" && ["start", "stop", "reboot", "reset"].contains(part)
                        })
                },
            )
        });
        assert!(mentioned, "{API} does not mention {path}");
    }
}

#[test]
fn every_metric_to_watch_is_there() {
    let there = Metrics::default().render(&Snapshot::default()).expect("the controller's metrics");
    let mut sources = files("agent/src/metrics");
    sources.extend(["agent/src/metrics.rs", "agent/src/phone/tally.rs"].map(str::to_owned));
    let agent: String = sources.iter().map(|path| page(path)).collect();
    let page = page(OPERATING);
    let mut count = 0;
    for name in quoted(&page) {
        let bare = name.split('{').next().unwrap_or(name);
        let metric = ["phonefleet_controller_", "phonefleet_agent_", "saga_", "recordings_"]
            .iter()
            .any(|prefix| bare.starts_with(prefix));
        if metric && !bare.contains('.') {
            count += 1;
            let there = if let Some(name) = bare.strip_prefix("phonefleet_agent_") {
                // A family without a series is not rendered: its registration is looked for.
                let units = ["_seconds", "_bytes", "_total"];
                let short = units.iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
                agent.contains(&format!("\"{short}\""))
            } else {
                let family = bare.strip_suffix("_total").unwrap_or(bare);
                there.contains(&format!("# TYPE {family} "))
            };
            assert!(there, "there is no metric {bare}");
        }
    }
    assert!(count > 10, "the search has lost its way");
}
