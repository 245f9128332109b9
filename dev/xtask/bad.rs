fn f() { todo!() }	
#[ignore]
// /work/x
