//! The server at every system call that writes: killed there, or told that the disk fails or is full.
//!
//! A *leg* is a part of a server's life that is the same each time: boots of several directories, a session with
//! everything in it, refusals too, the return of what a server has lost, and what is sent in a session. The n-th
//! call of a kind in a leg is a *point*, and each point meets each fault. Then the server is started as usual: all
//! that was promised is there, and its writers come to an end with each batch counted once.
//!
//! Points are those that each of `RECORDINGS` runs without faults has. Who writes at the same time shares commits
//! now and then, so a run may have fewer calls: a point that did not come is tried again, at most `TRIES` times.

mod outdated;
mod points;
mod template;
mod world;

use crate::{
    Extent,
    report::{Bar, Report, percent, tell_fault},
    seeds,
    server::Program,
};
use points::{LEGS, Point};
use std::time::Instant;
use template::Template;

/// How often a point is tried, and how often of that as it is: behind that it is looked for 1, 2, 4, 8, 16 calls earlier,
/// since a session may make some calls fewer than those that were counted.
const TRIES: usize = 10;
const TRIES_AS_IT_IS: usize = 5;

/// Points that there are at least, and of these such that are syncs: fewer are calls that the server does not make any
/// more, or that nobody looks at.
const PLANNED: f64 = 2_500.0;
const PLANNED_SYNCS: f64 = 100.0;

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    points: u64,
    /// Points that did not come, whatever was tried.
    missed: u64,
    violations: usize,
}

/// Every point, or an even sample of so many.
pub(crate) fn suite(
    extent: Extent,
    sample: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let program = Program::build()?;
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let template = runtime.block_on(Template::make(program))?;
    let mut points = Vec::new();
    for leg in LEGS {
        points.extend(runtime.block_on(template.points(leg))?);
    }
    let planned = points.len();
    let syncs = points.iter().filter(|point| point.call == "fsync").count();
    let points = seeds::sample(points, extent.seed, sample)?;
    let run = |index: u64, sum: &mut Sum| {
        let spent = extent.budget.is_some_and(|budget| started.elapsed() > budget);
        let point = usize::try_from(index).ok().and_then(|index| points.get(index));
        if let (Some(point), false) = (point, spent) {
            meet(&template, *point, sum);
        }
    };
    let add = |whole: &mut Sum, more: Sum| {
        whole.points += more.points;
        whole.missed += more.missed;
        whole.violations += more.violations;
    };
    let all = Extent { budget: None, seed: 0 };
    let (_, sum) = seeds::each(all, u64::try_from(points.len())?, run, add);
    report.count("sweep.planned", planned, "points", Bar::AtLeast(PLANNED))?;
    report.count("sweep.planned_syncs", syncs, "points", Bar::AtLeast(PLANNED_SYNCS))?;
    report.count("sweep.points", usize::try_from(sum.points)?, "points", Bar::AtLeast(1.0))?;
    let met = percent(sum.points, sum.points + sum.missed);
    report.tell("sweep.met", met, "% of points", Bar::Exactly(100.0))?;
    report.count("sweep.violations", sum.violations, "points", Bar::Exactly(0.0))?;
    report.tell("sweep.time", started.elapsed().as_secs_f64(), "s", Bar::None)
}

fn meet(template: &Template, point: Point, sum: &mut Sum) {
    let once = |point: Point| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { template.begin(point.leg).await?.meet(point).await })
    };
    for tried in 1..=TRIES {
        let earlier = (1 << tried.saturating_sub(TRIES_AS_IT_IS)) >> 1;
        match once(Point { at: point.at.saturating_sub(earlier).max(1), ..point }) {
            Ok(false) => {}
            Ok(true) => {
                sum.points += 1;
                return;
            }
            Err(fault) => {
                sum.points += 1;
                sum.violations += 1;
                return tell_fault(format!("{point:?}: {fault:#}"));
            }
        }
    }
    sum.missed += 1;
    tell_fault(format!("{point:?}: not met"));
}
