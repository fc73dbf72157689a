//! `simulate`: runs seeds, tells the story of one, makes a failing one smaller.

use clap::Parser;
use phonefleet_protocol::mutant::Mutant;
use phonefleet_simulation::campaign::{Campaign, Report, campaign, regressions};
use phonefleet_simulation::mutants;
use phonefleet_simulation::run::run;
use phonefleet_simulation::scenario::Seed;
use phonefleet_simulation::scenario::generate::scenario;
use phonefleet_simulation::shrink::shrink;
use phonefleet_simulation::trace::Detail;
use phonefleet_simulation::world;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Simulates whole fleets, each from one seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds, from --from on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// One seed only, with its story.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: of everything a little, whatever mood it draws.
    #[arg(long)]
    plain: bool,
    /// With --seed: every message of the broker, too.
    #[arg(long)]
    everything: bool,
    /// With --seed: what the daemons log, too.
    #[arg(long)]
    log: bool,
    /// With --seed: leave entries out while it still fails, and tell that story.
    #[arg(long)]
    shrink: bool,
    /// With --seed: only these entries of its scenario, by number.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// Plants this fault (builds with the feature `mutants` only).
    #[arg(long)]
    mutant: Option<String>,
    /// Plants every fault, one after the other; each must be found.
    #[arg(long)]
    mutants: bool,
    /// The seeds that failed once.
    #[arg(long)]
    regressions: bool,
    /// Runs at a time; the number of processors.
    #[arg(long)]
    jobs: Option<usize>,
    /// Begin no further run after so many seconds.
    #[arg(long)]
    within: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let templates = match world::templates() {
        Ok(templates) => templates,
        Err(error) => {
            eprintln!("simulate: no databases to begin with: {error}");
            return ExitCode::from(2);
        }
    };
    let mutant = match arguments.mutant.as_deref().map(mutants::find).transpose() {
        Ok(mutant) => mutant,
        Err(why) => {
            eprintln!("simulate: {why}");
            return ExitCode::from(2);
        }
    };
    let fine = match arguments.seed {
        _ if arguments.mutants => mutants::hunt(jobs(&arguments), templates.path()),
        Some(seed) => {
            mutants::plant(mutant);
            one(&arguments, seed, templates.path())
        }
        None => many(&arguments, mutant, templates.path()),
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(arguments: &Arguments, seed: u64, templates: &Path) -> bool {
    if arguments.log {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stdout).init();
    }
    let mut scenario = scenario(Seed { number: seed, plain: arguments.plain });
    if let Some(only) = &arguments.only {
        scenario.entries.retain(|entry| only.contains(&entry.number));
    }
    let detail = if arguments.everything { Detail::Everything } else { Detail::Story };
    let mut outcome = run(&scenario, templates, detail);
    if arguments.shrink && !outcome.found.is_empty() {
        scenario = shrink(&scenario, &outcome.found, templates);
        outcome = run(&scenario, templates, detail);
    }
    println!("seed {seed}: {}, {} hosts, {} users", scenario.mood, scenario.hosts, scenario.users);
    for entry in &scenario.entries {
        println!("  {entry}");
    }
    print!("{}", outcome.story);
    println!("trace {:016x}, {} s of virtual time", outcome.hash, outcome.passed.as_secs());
    for finding in &outcome.found {
        println!("FOUND {finding}");
    }
    if arguments.shrink && !outcome.found.is_empty() {
        let numbers: Vec<_> = scenario.entries.iter().map(|entry| entry.number.to_string()).collect();
        let plain = if arguments.plain { " --plain" } else { "" };
        println!("replay: simulate --seed {seed}{plain} --only {}", numbers.join(","));
    }
    outcome.found.is_empty()
}

fn jobs(arguments: &Arguments) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    arguments.jobs.unwrap_or_else(processors)
}

fn many(arguments: &Arguments, mutant: Option<Mutant>, templates: &Path) -> bool {
    let plan = Campaign {
        seeds: if arguments.regressions {
            regressions()
        } else {
            (arguments.from..arguments.from.saturating_add(arguments.seeds)).map(Seed::new).collect()
        },
        jobs: jobs(arguments),
        within: arguments.within.map(Duration::from_secs),
        until_found: false,
    };
    let report = campaign(&plan, templates, || mutants::plant(mutant));
    tell(&report);
    if report.runs < plan.seeds.len() {
        println!("the time was up: {} of {} seeds were run", report.runs, plan.seeds.len());
    }
    report.failed.is_empty()
}

fn tell(report: &Report) {
    for (seed, found) in &report.failed {
        println!("seed {seed} failed:");
        for finding in found.iter().take(3) {
            println!("  {}", finding.get(..600).unwrap_or(finding));
        }
        let plain = if seed.plain { " PLAIN=1" } else { "" };
        println!("  replay: make simulate SEED={}{plain}", seed.number);
    }
    let minutes = report.took.as_secs_f64() / 60.0;
    println!(
        "{} seeds in {:.0} s ({:.0} a minute), {} h of virtual time; {} failed",
        report.runs,
        report.took.as_secs_f64(),
        report.runs as f64 / minutes.max(1e-9),
        report.passed.as_secs() / 3600,
        report.failed.len()
    );
}
