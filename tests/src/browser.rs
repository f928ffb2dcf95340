//! A headless Chromium, driven through its DevTools protocol: real layout, real clicks.
//!
//! The protocol runs over two pipes that the browser inherits as descriptors 3 and 4, one JSON
//! message up to a zero byte at a time (`--remote-debugging-pipe`).

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{folder::Folder, privileges};

/// The first of these that is installed; the first one is the smallest.
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];
/// What there are events of.
const DOMAINS: [&str; 4] = ["Page", "Runtime", "Network", "Log"];
/// Many times what anything takes on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// A window so tall that all of a page is in it.
pub const TALL: u32 = 3000;
const WIDTH: u32 = 1200;

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    seen: Vec<Value>,
    next_id: u64,
    target: String,
    session: String,
    _profile: Folder,
}

/// Whether the reader prefers light pages or dark ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The usual.
    Light,
    /// Light text on a dark page.
    Dark,
}

impl Browser {
    /// Opens a file in a window of a height; `None` where no browser is installed, after saying so
    /// aloud.
    ///
    /// # Errors
    ///
    /// In CI without a browser; if the browser does not answer.
    pub fn open(file: &Path, scheme: Scheme, height: u32) -> Result<Option<Self>> {
        let installed = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
        let Some(program) = PROGRAMS.iter().find(installed) else {
            privileges::skip("no browser: apt-get install chromium-headless-shell")?;
            return Ok(None);
        };
        let mut browser = Self::start(program)?;
        browser.attach()?;
        browser.show(file, scheme, height)?;
        Ok(Some(browser))
    }

    fn start(program: &str) -> Result<Self> {
        let profile = Folder::new("browser")?;
        // Root may not use the sandbox, and the pages are the tests' own.
        let command = format!(
            "exec {program} --headless --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe \
             --user-data-dir={} 3<&0 4>&1 >/dev/null 2>&1",
            profile.path().display()
        );
        let mut child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no pipe to the browser")?;
        let output = child.stdout.take().context("no pipe from the browser")?;
        Ok(Self {
            child,
            input,
            messages: listen(output),
            events: VecDeque::new(),
            seen: Vec::new(),
            next_id: 0,
            target: String::new(),
            session: String::new(),
            _profile: profile,
        })
    }

    fn attach(&mut self) -> Result<()> {
        let created = self.call("Target.createTarget", json!({"url": "about:blank"}))?;
        self.target = text(&created["targetId"])?;
        let attached = self.call(
            "Target.attachToTarget",
            json!({"targetId": self.target, "flatten": true}),
        )?;
        self.session = text(&attached["sessionId"])?;
        for domain in DOMAINS {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        // A frame may have a process, and with it a session, of its own.
        self.call(
            "Target.setAutoAttach",
            json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true}),
        )?;
        Ok(())
    }

    fn show(&mut self, file: &Path, scheme: Scheme, height: u32) -> Result<()> {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        )?;
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": value}]}),
        )?;
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({"url": url}))?;
        self.wait_for_event("Page.loadEventFired")?;
        Ok(())
    }

    /// The value of a JavaScript expression in the page.
    ///
    /// # Errors
    ///
    /// If it throws.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let session = self.session.clone();
        let params = json!({"expression": expression, "returnByValue": true});
        self.evaluate(&session, params)
    }

    /// The value of a JavaScript expression in the frame that the page holds.
    ///
    /// # Errors
    ///
    /// If there is no frame, or it throws.
    pub fn value_in_frame(&mut self, expression: &str) -> Result<Value> {
        let page = self.target.clone();
        let context = |event: &Value| {
            let context = &event["params"]["context"];
            let own = event["method"] == "Runtime.executionContextCreated";
            let frame = &context["auxData"]["frameId"];
            (own && frame.as_str() != Some(&page))
                .then(|| (text(&event["sessionId"]), context["id"].clone()))
        };
        let found = self.seen.iter().rev().find_map(context);
        let (session, id) = found.context("the page has no frame")?;
        self.evaluate(
            &session?,
            json!({"expression": expression, "returnByValue": true, "contextId": id}),
        )
    }

    fn evaluate(&mut self, session: &str, params: Value) -> Result<Value> {
        let shown = params["expression"].to_string();
        let id = self.send(session, "Runtime.evaluate", params)?;
        let result = self.reply("Runtime.evaluate", id)?;
        ensure!(result["exceptionDetails"].is_null(), "{shown}: {result}");
        Ok(result["result"]["value"].clone())
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub fn wait_until(&mut self, expression: &str) -> Result<()> {
        self.wait(expression, |browser| browser.value(expression))
    }

    /// Waits until an expression is true in the page's frame.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub fn wait_until_in_frame(&mut self, expression: &str) -> Result<()> {
        self.wait(expression, |browser| browser.value_in_frame(expression))
    }

    fn wait(
        &mut self,
        what: &str,
        mut value: impl FnMut(&mut Self) -> Result<Value>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A frame that is still to come has no value yet.
            let now = value(self);
            if matches!(now, Ok(Value::Bool(true))) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("`{what}` did not come true: {now:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks at a place of the page, with the mouse.
    ///
    /// # Errors
    ///
    /// If the browser does not take it.
    pub fn click(&mut self, x: f64, y: f64) -> Result<()> {
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}),
            )?;
        }
        Ok(())
    }

    /// Clicks in the middle of the first element that a selector finds.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn click_on(&mut self, selector: &str) -> Result<()> {
        let place = self.value(&format!(
            "(() => {{ const r = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ))?;
        let at = |i: usize| place[i].as_f64().context("no place");
        self.click(at(0)?, at(1)?)
    }

    /// Types a text where the focus is.
    ///
    /// # Errors
    ///
    /// If the browser does not take it.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({"text": text}))?;
        Ok(())
    }

    /// Answers the question that the page asks next with a `prompt`, which `ask` makes it do.
    ///
    /// # Errors
    ///
    /// If there is no question.
    pub fn answer(&mut self, ask: &str, with: &str) -> Result<()> {
        // The reply comes only once the question is answered.
        let session = self.session.clone();
        self.send(&session, "Runtime.evaluate", json!({"expression": ask}))?;
        self.wait_for_event("Page.javascriptDialogOpening")?;
        self.call(
            "Page.handleJavaScriptDialog",
            json!({"accept": true, "promptText": with}),
        )?;
        Ok(())
    }

    /// Addresses that were asked for so far.
    pub fn requests(&self) -> Vec<String> {
        let events = self.of("Network.requestWillBeSent");
        let url = |event: &Value| {
            event["params"]["request"]["url"]
                .as_str()
                .map(str::to_owned)
        };
        events.filter_map(url).collect()
    }

    /// What went wrong in the page so far: errors that were logged or thrown, loads that the page's
    /// own policy forbade.
    pub fn errors(&self) -> Vec<String> {
        let logged = self.of("Log.entryAdded").filter(|event| {
            let entry = &event["params"]["entry"];
            entry["level"] == "error"
        });
        let thrown = self.of("Runtime.exceptionThrown");
        let short = |event: &Value| event["params"].to_string().chars().take(500).collect();
        logged.chain(thrown).map(short).collect()
    }

    fn of(&self, method: &str) -> impl Iterator<Item = &Value> {
        self.seen
            .iter()
            .filter(move |event| event["method"] == method)
    }

    fn send(&mut self, session: &str, method: &str, params: Value) -> Result<u64> {
        self.next_id += 1;
        let mut message = json!({"id": self.next_id, "method": method, "params": params});
        if !session.is_empty() {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.input.write_all(&bytes)?;
        self.input.flush()?;
        Ok(self.next_id)
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let session = self.session.clone();
        let id = self.send(&session, method, params)?;
        self.reply(method, id)
    }

    fn reply(&mut self, method: &str, id: u64) -> Result<Value> {
        loop {
            let message = self.receive(method)?;
            if message["id"] == id {
                ensure!(message["error"].is_null(), "{method}: {message}");
                return Ok(message["result"].clone());
            }
            self.keep(message)?;
        }
    }

    fn wait_for_event(&mut self, method: &str) -> Result<()> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["method"] == method {
                    return Ok(());
                }
            }
            let message = self.receive(method)?;
            self.keep(message)?;
        }
    }

    fn keep(&mut self, message: Value) -> Result<()> {
        if !message["id"].is_null() {
            return Ok(());
        }
        if message["method"] == "Target.attachedToTarget" && !self.session.is_empty() {
            let session = text(&message["params"]["sessionId"])?;
            for domain in DOMAINS {
                self.send(&session, &format!("{domain}.enable"), json!({}))?;
            }
            self.send(&session, "Runtime.runIfWaitingForDebugger", json!({}))?;
        }
        self.seen.push(message.clone());
        self.events.push_back(message);
        Ok(())
    }

    fn receive(&self, what: &str) -> Result<Value> {
        let message = self.messages.recv_timeout(PATIENCE);
        message.with_context(|| format!("the browser does not answer {what}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(output: ChildStdout) -> Receiver<Value> {
    let (sender, messages) = channel();
    thread::spawn(move || {
        for message in BufReader::new(output).split(0) {
            let parsed = message.ok().and_then(|m| serde_json::from_slice(&m).ok());
            let Some(message) = parsed else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    messages
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("no text")?.to_owned())
}
