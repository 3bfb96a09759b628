//! `tickplane latency --stalls`: when the worker's loop took too long.

use super::status::duration;
use super::{ClientError, ServerArgs};
use crate::proto::telemetry_client::TelemetryClient;
use crate::proto::{Stall, StallsRequest, WorkerStalls};
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write, stdout};

pub async fn show(server: &ServerArgs, json: bool) -> Result<(), ClientError> {
    let mut client = TelemetryClient::new(server.connect().await?);
    let workers = client.stalls(StallsRequest {}).await?.into_inner().workers;
    let mut out = BufWriter::new(stdout().lock());
    match json {
        true => writeln!(out, "{}", json!({ "workers": workers.iter().map(json_of).collect::<Vec<_>>() }))?,
        false => workers.iter().try_for_each(|worker| print(worker, &mut out))?,
    }
    Ok(out.flush()?)
}

fn json_of(worker: &WorkerStalls) -> Value {
    let last = worker.last.iter().map(|stall| {
        json!({
            "ended_ns": stall.ended_ns, "duration_ns": stall.duration_ns, "idle": stall.idle, "frames": stall.frames,
            "messages": stall.messages, "port": stall.port, "feed": stall.feed,
        })
    });
    json!({
        "worker": worker.worker, "limit_ns": worker.limit_ns, "count": worker.count, "total_ns": worker.total_ns,
        "last": last.collect::<Vec<_>>(),
    })
}

fn print(worker: &WorkerStalls, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "worker {}: {} rounds took longer than {}, {} together",
        worker.worker,
        worker.count,
        duration(worker.limit_ns),
        duration(worker.total_ns)
    )?;
    for stall in &worker.last {
        let at = jiff::Timestamp::from_nanosecond(stall.ended_ns.into()).unwrap_or_default();
        writeln!(out, "  {at:.6}  {:>10}  {}", duration(stall.duration_ns), what_of(stall))?;
    }
    Ok(())
}

fn what_of(stall: &Stall) -> String {
    if stall.idle {
        return "idle: the thread was kept from running, or took a region over".to_owned();
    }
    let feed = if stall.feed.is_empty() { String::new() } else { format!(" of feed {}", stall.feed) };
    format!("{} frames of port {}, {} messages{feed}", stall.frames, stall.port, stall.messages)
}
