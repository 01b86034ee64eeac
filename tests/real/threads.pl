# SPDX-License-Identifier: MIT
# Perl's interpreter threads: shared variables, queues, semaphores, conditions, results, detached threads, pipes, fork, signals.
# Says "ok" when every sum is right.
use strict;
use warnings;
use threads;
use threads::shared;
use Thread::Queue;
use Thread::Semaphore;
use Time::HiRes qw(sleep time);
use POSIX ();

sub check {
	my ($what, $is, $want) = @_;
	return if $is eq $want;
	print STDERR "threads.pl: $what: $is, not $want\n";
	POSIX::_exit(1);
}

# a counter under a lock
my $count :shared = 0;
$_->join for map { threads->create(sub { for (1 .. 200) { lock $count; my $n = $count; threads->yield if $n % 50 == 0; $count = $n + 1 } }) } 1 .. 20;
check("lock", $count, 20 * 200);

# queues there and back
my ($there, $back) = (Thread::Queue->new, Thread::Queue->new);
my @workers = map { threads->create(sub { while (defined(my $n = $there->dequeue)) { $back->enqueue($n * $n) } return threads->tid }) } 1 .. 5;
$there->enqueue($_) for 1 .. 1000;
$there->end;
my %tids = map { $_->join => 1 } @workers;
check("tids", scalar(keys %tids), 5);
my $sum = 0;
$sum += $back->dequeue for 1 .. 1000;
check("queue", $sum, 1000 * 1001 * 2001 / 6);
check("dequeue_timed", defined($back->dequeue_timed(0.05)) ? 1 : 0, 0);

# a baton by condition variable
my ($turn, $laps) :shared = (0, 0);
($turn, $laps) = (0, 0);
$_->join for map { my $k = $_; threads->create(sub {
	for (1 .. 30) {
		lock $turn;
		cond_wait($turn) until $turn == $k;
		$laps++;
		$turn = ($turn + 1) % 4;
		cond_broadcast($turn);
	}
}) } 0 .. 3;
check("condition", $laps, 4 * 30);
{
	my $never :shared = 0;
	lock $never;
	my $began = time;
	check("cond_timedwait", cond_timedwait($never, $began + 0.1) ? 1 : 0, 0);
}

# semaphore: never more than three inside
my $sem = Thread::Semaphore->new(3);
my ($inside, $most) :shared = (0, 0);
($inside, $most) = (0, 0);
$_->join for map { threads->create(sub { for (1 .. 10) {
	$sem->down;
	{ lock $inside; $inside++; $most = $inside if $inside > $most; }
	sleep 0.0005;
	{ lock $inside; $inside--; }
	$sem->up;
} }) } 1 .. 8;
check("semaphore", $most <= 3 && $inside == 0 ? "held" : "$most $inside", "held");

# results, errors, detached ones, thread signals
check("list", join(",", threads->create({ context => "list" }, sub { map { $_ * 2 } @_ }, 1 .. 5)->join), "2,4,6,8,10");
{
	local $SIG{__WARN__} = sub { };
	my $t = threads->create(sub { die "as meant\n" });
	$t->join;
	check("error", $t->error, "as meant\n");
}
my $done = Thread::Semaphore->new(0);
threads->create(sub { sleep 0.01; $done->up })->detach for 1 .. 5;
$done->down(5);
my $ready = Thread::Semaphore->new(0);
my $killed = threads->create(sub { my $on = 1; local $SIG{KILL} = sub { $on = 0 }; $ready->up; sleep 0.01 while $on; "killed" });
$ready->down;
$killed->kill("KILL");
check("kill", $killed->join // "", "killed");

# children by pipe from several threads
my @out = map { my $k = $_; threads->create(sub {
	open my $p, "-|", "seq", $k, $k + 200 or die;
	my $n = 0;
	$n += $_ while <$p>;
	close $p;
	return "$n $?";
}) } 1 .. 6;
check("pipe $_", $out[$_ - 1]->join, 201 * $_ + 200 * 201 / 2 . " 0") for 1 .. 6;
check("system", join(",", map { $_->join } map { my $k = $_; threads->create(sub { system("exit $k;") >> 8 }) } 1 .. 5), "1,2,3,4,5");

# Fork from main and from a thread, while others compute. They touch nothing shared: the child of a perl that forks while another
# thread holds perl's own lock, deadlocks, as perlthrtut says.
my @busy = map { threads->create(sub { my $n = 0; $n++ while $n < 5e6; $n }) } 1 .. 2;
sub forked {
	my $k = shift;
	pipe my $r, my $w or die;
	my $pid = fork // die;
	if (!$pid) {
		my $n = 0;
		$n += $_->join for map { my $i = $_; threads->create(sub { $i * $k }) } 0 .. 3;
		syswrite $w, $n;
		POSIX::_exit(3);
	}
	close $w;
	my $text = join "", <$r>;
	waitpid $pid, 0;
	return "$text " . ($? >> 8);
}
check("fork", forked(5), "30 3");
check("fork in a thread", join(";", map { threads->create(sub { forked($_[0]) }, $_)->join } 1 .. 4), "6 3;12 3;18 3;24 3");
check("busy", join(",", map { $_->join } @busy), "5000000,5000000");

# signals and alarm while threads wait
my $waiting = threads->create(sub { my $q = Thread::Queue->new; $done->down; 1 });
my $got = 0;
$SIG{USR1} = sub { $got++ };
for (1 .. 10) {
	kill USR1 => $$;
	my $until = time + 20;
	select undef, undef, undef, 0.001 while $got < $_ && time < $until;
}
check("signals", $got, 10);
my $began = time;
eval { local $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; sleep 20; alarm 0 };
check("alarm", $@, "alarm\n");
check("alarm took long", time - $began < 15 ? 1 : 0, 1);
$done->up;
$waiting->join;
print "ok\n";
