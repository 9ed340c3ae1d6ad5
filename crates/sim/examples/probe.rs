#![allow(clippy::unwrap_used, clippy::print_stdout)]
use onestep_sim::*;
fn main() {
    let task = task("lift").unwrap();
    let robot = Robot::panda().unwrap();
    let run = |actions: &dyn Fn(usize) -> [f32; 7], n: usize| {
        let mut arena = SimArena::new(task.clone(), robot.clone(), 1);
        let mut out = vec![arena.observation().to_vec()];
        for i in 0..n {
            arena.step(&actions(i)).unwrap();
            out.push(arena.observation().to_vec());
        }
        out
    };
    let o = run(&|_| [0.0; 7], 40);
    println!("zero: start {:?}", &o[0]);
    println!("zero: end   {:?}", &o[40]);
    println!("drift mm {:?}", (0..3).map(|k| (o[40][k] - o[0][k]) * 1e3).collect::<Vec<_>>());
    for axis in 0..3 {
        let o = run(&|i| { let mut a = [0.0; 7]; if i == 0 { a[axis] = 1.0 } a }, 8);
        println!("pulse axis {axis}: {:?}", o.iter().skip(1).map(|v| ((v[axis] - o[0][axis]) * 1e4).round() / 10.0).collect::<Vec<_>>());
    }
    let o = run(&|_| { let mut a = [0.0; 7]; a[0] = 1.0; a }, 12);
    println!("const x: {:?}", o.windows(2).map(|v| ((v[1][0] - v[0][0]) * 1e4).round() / 10.0).collect::<Vec<_>>());
    let o = run(&|_| { let mut a = [0.0; 7]; a[0] = 0.3; a }, 12);
    println!("0.3 x: {:?}", o.windows(2).map(|v| ((v[1][0] - v[0][0]) * 1e4).round() / 10.0).collect::<Vec<_>>());
    for g in [1.0, -1.0] {
        let o = run(&|_| { let mut a = [0.0; 7]; a[6] = g; a }, 10);
        println!("gripper {g}: {:?}", o.iter().map(|v| (v[7] * 1e4).round() / 1e4).collect::<Vec<_>>());
    }
    let start = std::time::Instant::now();
    let mut wins = 0; let mut total = 0; let mut worst = 0; let mut lens = vec![];
    let n = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(20u64);
    for seed in 0..n {
        let mut arena = SimArena::new(task.clone(), robot.clone(), seed);
        let mut memory = ExpertMemory::default();
        loop {
            let a = arena.expert(&mut memory);
            let out = arena.step(&a).unwrap();
            total += 1;
            if n == 1 { println!("{:?} {:?} {:?}", memory, arena.observation(), a); }
            if out.is_end() { if out.success { wins += 1; } worst = worst.max(arena.steps()); lens.push(arena.steps()); break; }
        }
    }
    let t = start.elapsed().as_secs_f64();
    lens.sort();
    println!("expert {wins}/{n}, median {} worst {worst}, {total} steps, {:.0} steps/s", lens[lens.len()/2], total as f64 / t);
}
