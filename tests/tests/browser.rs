//! The page and the flamegraph in a real browser: they are shown, they answer clicks, and they load
//! nothing.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    model::{Event, Sink},
    report::{AtEnd, Flamegraph, Html},
};
use loopprobe_tests::{
    browser::{Browser, Scheme, TALL},
    folder::Folder,
    privileges::place,
    synthetic,
};

fn write(mut sink: impl Sink, events: &[Event]) -> Result<()> {
    for event in events {
        sink.event(event)?;
    }
    Ok(())
}

fn page(folder: &Folder, events: &[Event]) -> Result<PathBuf> {
    let path = folder.path().join("report.html");
    write(Html::new(File::create(&path)?), events)?;
    Ok(path)
}

fn flamegraph(folder: &Folder, events: &[Event]) -> Result<PathBuf> {
    let path = folder.path().join("flamegraph.svg");
    let mut views = AtEnd::default();
    views.add(Flamegraph::default(), File::create(&path)?);
    write(views, events)?;
    Ok(path)
}

fn session() -> Vec<Event> {
    synthetic::session(&synthetic::polls(201))
}

/// Nothing but the file itself, and what it holds as `data:` addresses.
fn loads_only(browser: &Browser, file: &Path) -> Result<()> {
    let own = format!("file://{}", file.display());
    let requests = browser.requests();
    ensure!(requests.contains(&own), "{requests:?}");
    let foreign = requests
        .iter()
        .find(|url| **url != own && !url.starts_with("data:"));
    ensure!(foreign.is_none(), "{foreign:?}");
    let errors = browser.errors();
    ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

/// How light a colour is, from 0 to 255.
fn lightness(color: &str) -> Result<u32> {
    let numbers = color.split(|c: char| !c.is_ascii_digit());
    let parts: Vec<u32> = numbers.filter_map(|n| n.parse().ok()).take(3).collect();
    ensure!(parts.len() == 3, "{color}");
    Ok(parts.iter().sum::<u32>() / 3)
}

/// The width of a box of the flamegraph, in pixels, and where its middle is.
const BOX: &str = r#"
function box(name) {
  for (const group of document.querySelectorAll("\#frames > g")) {
    if (!group.querySelector("title").textContent.startsWith(name + " (")) continue;
    const rect = group.querySelector("rect").getBoundingClientRect();
    return [rect.width, rect.x + rect.width / 2, rect.y + rect.height / 2];
  }
}
"#;

fn numbers(value: &serde_json::Value) -> Result<[f64; 3]> {
    let at = |i: usize| {
        value[i]
            .as_f64()
            .with_context(|| format!("no box: {value}"))
    };
    Ok([at(0)?, at(1)?, at(2)?])
}

#[test]
fn the_page_answers_clicks_and_follows_light_and_dark() -> Result<()> {
    let _place = place()?;
    for scheme in [Scheme::Light, Scheme::Dark] {
        let folder = Folder::new("page")?;
        let file = page(&folder, &session())?;
        let Some(mut browser) = Browser::open(&file, scheme, TALL)? else {
            return Ok(());
        };
        let color = |of: &str, what: &str| {
            format!("getComputedStyle(document.querySelector({of:?})).{what}")
        };
        let background = browser.value(&color("body", "backgroundColor"))?;
        let text = browser.value(&color("#story p", "color"))?;
        let [background, text] = [background, text].map(|c| lightness(c.as_str().unwrap_or("")));
        let (background, text) = (background?, text?);
        ensure!(
            (background > 128) == (scheme == Scheme::Light),
            "{background}"
        );
        ensure!(background.abs_diff(text) > 128, "{text} on {background}");

        let shown = "document.body.innerText";
        let story = browser.value(shown)?;
        let story = story.as_str().context("no text")?;
        ensure!(
            story.contains("Most of it, 53%, was api::upload::handle"),
            "{story}"
        );
        ensure!(!story.contains("The longest: 78.0ms"), "open already");
        browser.click_on("#ranked .row")?;
        browser.wait_until(&format!("{shown}.includes('The longest: 78.0ms')"))?;
        browser.click_on("#ranked .row")?;
        browser.wait_until(&format!("!{shown}.includes('The longest: 78.0ms')"))?;

        browser.click_on("[data-poll='1']")?;
        browser
            .wait_until("document.getElementById('detail').innerText.includes('std::fs::read')")?;
        browser.click_on("[data-poll='2']")?;
        browser.wait_until("document.getElementById('detail').innerText.includes('score')")?;
        loads_only(&browser, &file)?;
    }
    Ok(())
}

#[test]
fn the_flamegraph_in_the_page_zooms_and_is_searched_from_the_page() -> Result<()> {
    let _place = place()?;
    let folder = Folder::new("page")?;
    let file = page(&folder, &session())?;
    let Some(mut browser) = Browser::open(&file, Scheme::Light, TALL)? else {
        return Ok(());
    };
    browser.wait_until_in_frame("document.querySelectorAll('#frames > g').length > 5")?;
    browser.value_in_frame(BOX)?;
    browser.wait_until_in_frame("box('all')[0] > 1000")?;
    let [before, ..] = numbers(&browser.value_in_frame("box('api::upload::store')")?)?;
    ensure!(before < 700.0, "{before}");
    // While the page is still being laid out, a click can miss what has just been measured.
    let zoomed = "box('api::upload::store')[0] == box('all')[0]";
    for _ in 0..10 {
        let [_, x, y] = numbers(&browser.value_in_frame("box('api::upload::store')")?)?;
        let frame = browser.value(
            "(() => { const r = document.getElementById('flamegraph').getBoundingClientRect(); return [r.width, r.x, r.y]; })()",
        )?;
        let [_, left, top] = numbers(&frame)?;
        browser.click(left + x, top + y)?;
        std::thread::sleep(Duration::from_millis(500));
        if browser.value_in_frame(zoomed)? == true {
            break;
        }
    }
    browser.wait_until_in_frame(zoomed)?;

    browser.click_on("#search")?;
    browser.write("{upload::store}")?;
    browser.wait_until("document.activeElement.value == '{upload::store}'")?;
    let matched = "document.getElementById('matched').textContent";
    ensure!(
        browser.value_in_frame(matched)? == " ",
        "braces are no expression"
    );
    browser.value("document.activeElement.value = ''")?;
    browser.write("upload::store")?;
    browser.wait_until_in_frame(&format!("{matched}.startsWith('Matched: ')"))?;
    loads_only(&browser, &file)
}

#[test]
fn the_flamegraph_below_the_window_is_there_when_it_is_scrolled_to() -> Result<()> {
    let _place = place()?;
    let folder = Folder::new("page")?;
    let file = page(&folder, &session())?;
    let Some(mut browser) = Browser::open(&file, Scheme::Light, 300)? else {
        return Ok(());
    };
    browser.wait_until_in_frame("document.querySelectorAll('#frames > g').length > 5")?;
    browser.value_in_frame(BOX)?;
    browser.value("document.getElementById('flamegraph').scrollIntoView()")?;
    browser.wait_until_in_frame("box('all')[0] > 1000")
}

#[test]
fn the_flamegraph_zooms_and_is_searched() -> Result<()> {
    let _place = place()?;
    let folder = Folder::new("svg")?;
    let file = flamegraph(&folder, &session())?;
    let Some(mut browser) = Browser::open(&file, Scheme::Light, TALL)? else {
        return Ok(());
    };
    browser.value(BOX)?;
    browser.wait_until("box('all')[0] > 1000")?;
    let [all, _, _] = numbers(&browser.value("box('all')")?)?;
    let [own, x, y] = numbers(&browser.value("box('api::upload::store')")?)?;
    let blocked = synthetic::file_reads_ns(&synthetic::polls(201)) as f64;
    let total: u64 = synthetic::polls(201).iter().map(|p| p.duration_ns).sum();
    let share = blocked / total as f64;
    ensure!(
        (own / all - share).abs() < 0.001,
        "{own} of {all} is not {share}"
    );
    browser.click(x, y)?;
    browser.wait_until("box('api::upload::store')[0] == box('all')[0]")?;
    browser.click_on("#unzoom")?;
    browser.wait_until("box('api::upload::store')[0] < 0.9 * box('all')[0]")?;
    browser.answer(
        "document.getElementById('search').dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        "store",
    )?;
    let percent = format!("Matched: {:.1}%", share * 100.0);
    browser.wait_until(&format!(
        "document.getElementById('matched').textContent == {percent:?}"
    ))?;
    loads_only(&browser, &file)
}

#[test]
fn names_from_the_target_stay_text_in_the_browser() -> Result<()> {
    let _place = place()?;
    let folder = Folder::new("hostile")?;
    let evil =
        "</script></title><img src=http://127.0.0.1:9/x onerror=document.title='owned'>\"'`${1}";
    let mut poll = synthetic::file_read(100, synthetic::START, 50);
    poll.task.name = evil.to_owned();
    poll.thread = evil.to_owned();
    poll.stacks[0].frames[0].function = Some(evil.to_owned());
    let mut events = synthetic::session(&[poll]);
    events[0] = synthetic::head(evil);
    for file in [page(&folder, &events)?, flamegraph(&folder, &events)?] {
        let Some(mut browser) = Browser::open(&file, Scheme::Light, TALL)? else {
            return Ok(());
        };
        if file.extension().is_some_and(|kind| kind == "html") {
            browser.click_on("#ranked .row")?;
            browser.click_on("[data-poll='0']")?;
            browser.wait_until_in_frame("document.querySelectorAll('#frames > g').length > 2")?;
            ensure!(
                browser
                    .value_in_frame("document.querySelector('img')")?
                    .is_null()
            );
            let shown = browser.value("document.getElementById('detail').innerText")?;
            ensure!(shown.to_string().contains("<img src="), "{shown}");
        }
        ensure!(browser.value("document.querySelectorAll('img').length")? == 0);
        ensure!(browser.value("document.title")? != "owned");
        loads_only(&browser, &file)?;
    }
    Ok(())
}
