//! `tickplane top`: the node and its instruments, live, on a terminal.
//!
//! ```text
//! link ──► state ──► draw ──► terminal        link: gRPC → events; state and draw are pure
//! keys ──► input ──┘
//! ```

pub mod draw;
pub mod input;
mod instruments;
mod latency;
mod limits;
mod lines;
mod link;
mod number;
pub mod state;
mod troubles;

use crate::client::{ClientError, ServerArgs};
use crate::pattern::Pattern;
use crate::stop;
use crossterm::event::{Event as Terminal, EventStream};
use draw::{Theme, draw, instrument_rows};
use link::Link;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use state::{Event, State};
use std::io::{self, IsTerminal, Write, stdout};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::StreamExt;
use tonic::Status;

const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// How long `--once` waits for a whole picture.
const ONCE_MAX: Duration = Duration::from_secs(30);
/// Columns and lines that a picture can have.
const SIDE_MAX: u16 = 1_000;

const EXAMPLES: &str = "\
Keys: q quit, ? help, s sort, r reverse, / filter, Space pause, Tab instruments alone, arrows
and PgUp, PgDn scroll. NO_COLOR=1 does without colours.

The node pays for one subscription, one stream of latencies and two small calls a second, however
often a picture is drawn. For scripts there is `tickplane status --json`.

Examples:
  The node on this machine, and one elsewhere:
      tickplane top
      tickplane top --server http://10.1.2.3:50051

  Only what begins with A:
      tickplane top --filter 'A*'

  One picture as text, as wide and as high as a document needs it:
      tickplane top --once --size 120x40";

/// Watch the node and its instruments live, on a terminal
///
/// Shows instruments by activity with their prices, which line of each feed is first and by how much, latencies by stage, how
/// full the limits are, and what is wrong. A row that can't be believed never looks live: if the node goes away, its rows are
/// stale until it is back.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// Only instruments whose symbol matches: * stands for any characters, ? for one
    #[arg(long, value_name = "PATTERN", default_value = "*", value_parser = pattern)]
    pub filter: String,

    /// Print one picture as text, after the first second of data
    #[arg(long)]
    pub once: bool,

    /// Columns and lines of that picture
    #[arg(long, value_name = "COLUMNSxLINES", default_value = "80x24", value_parser = size, requires = "once")]
    pub size: (u16, u16),

    #[command(flatten)]
    pub server: ServerArgs,
}

fn pattern(text: &str) -> Result<String, String> {
    Pattern::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(columns, lines)| {
        let side = |text: &str| text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
        Some((side(columns)?, side(lines)?))
    });
    sides.ok_or_else(|| format!("give it as 80x24, each from 1 to {SIDE_MAX}"))
}

pub async fn run(args: &TopArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    let theme = Theme::of_environment();
    let view = View::start(args);
    if args.once {
        return view.print(args.size, theme, stop).await;
    }
    if !stdout().is_terminal() {
        let message = "this is no terminal: --once prints one picture as text";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message).into());
    }
    view.show(theme, stop).await
}

/// The link and what is known by it.
struct View {
    link: Link,
    state: State,
    started: Instant,
}

impl View {
    fn start(args: &TopArgs) -> View {
        View {
            link: Link::start(&args.server, &args.filter),
            state: State::new(&args.server.server, &args.filter),
            started: Instant::now(),
        }
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn take(&mut self, event: Event) {
        let now_ns = self.now_ns();
        self.state.take(event, now_ns);
    }

    fn tick(&mut self) {
        let now_ns = self.now_ns();
        self.state.tick(now_ns);
        if self.state.take_wish_for_image() {
            self.link.subscribe(&self.state.pattern);
        }
    }

    /// One picture, once there is all of it.
    async fn print(
        mut self,
        (width, height): (u16, u16),
        theme: Theme,
        stop: &AtomicBool,
    ) -> Result<(), ClientError> {
        let whole = timeout(ONCE_MAX, async {
            let mut frames = frames();
            while !self.state.is_whole() {
                tokio::select! {
                    () = stop::requested(stop) => return Ok(false),
                    event = self.link.event() => match event {
                        Event::Lost(error) => return Err(error),
                        event => self.take(event),
                    },
                    _ = frames.tick() => self.tick(),
                }
            }
            Ok(true)
        });
        match whole.await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let message = format!("it did not tell everything within {ONCE_MAX:?}");
                return Err(Status::deadline_exceeded(message).into());
            }
        }
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(&self.state, theme, area, &mut buffer);
        let mut out = stdout().lock();
        out.write_all(draw::text(&buffer).as_bytes())?;
        Ok(out.flush()?)
    }

    /// Pictures until the end is wished for.
    async fn show(mut self, theme: Theme, stop: &AtomicBool) -> Result<(), ClientError> {
        let mut screen = Screen::open()?;
        let mut keys = EventStream::new();
        let mut frames = frames();
        while !self.state.wants_end {
            tokio::select! {
                () = stop::requested(stop) => break,
                event = self.link.event() => match event {
                    // No other try would be better.
                    Event::Lost(error @ ClientError::Url { .. }) => return Err(error),
                    event => self.take(event),
                },
                key = keys.next() => match key {
                    Some(Ok(Terminal::Key(key))) => self.press(key, &mut screen, theme)?,
                    // Resized: the next picture fits.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => break,
                },
                _ = frames.tick() => {
                    self.tick();
                    screen.draw(&mut self.state, theme)?;
                }
            }
        }
        Ok(())
    }

    fn press(
        &mut self,
        key: crossterm::event::KeyEvent,
        screen: &mut Screen,
        theme: Theme,
    ) -> io::Result<()> {
        let Some(action) = input::action(key, self.state.typed.is_some()) else { return Ok(()) };
        let before = self.state.pattern.clone();
        self.state.act(action);
        if self.state.pattern != before {
            self.link.subscribe(&self.state.pattern);
        }
        screen.draw(&mut self.state, theme)
    }
}

fn frames() -> tokio::time::Interval {
    let mut frames = interval(FRAME_INTERVAL);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    frames
}

/// The terminal as a screen of its own; as it was before once this is dropped, and after a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Screen> {
        ratatui::try_init().map(Screen)
    }

    fn draw(&mut self, state: &mut State, theme: Theme) -> io::Result<()> {
        let frame = |frame: &mut ratatui::Frame<'_>| {
            state.set_page_rows(instrument_rows(state, frame.area()));
            draw(state, theme, frame.area(), frame.buffer_mut());
        };
        self.0.draw(frame).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
