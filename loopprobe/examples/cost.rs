fn main() {
    println!("{:?}", loopprobe::attach::measure(None));
    println!(
        "{:?}",
        loopprobe::attach::measure(Some(loopprobe::attach::Method::PerfEvent))
    );
}
