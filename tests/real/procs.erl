%% SPDX-License-Identifier: MIT
%% Processes whose stacks lie in the heap, the schedulers' and the asynchronous threads' work, and timers. Prints "ok".
-module(procs).
-export([main/0]).

main() ->
	Self = self(),
	Jobs = lists:seq(1, 2000),
	[spawn(fun() -> Self ! {sum, I, lists:sum(lists:seq(1, 10000 + I))} end) || I <- Jobs],
	Sums = lists:sort([receive {sum, I, S} -> {I, S} end || _ <- Jobs]),
	Sums = [{I, (10000 + I) * (10001 + I) div 2} || I <- Jobs],
	{ok, Text} = file:read_file("/etc/passwd"),
	Reader = fun(I) -> spawn(fun() -> {ok, T} = file:read_file("/etc/passwd"), Self ! {read, I, T =:= Text} end) end,
	[Reader(I) || I <- lists:seq(1, 300)],
	[receive {read, I, true} -> ok end || I <- lists:seq(1, 300)],
	[erlang:send_after(I rem 50, Self, {tick, I}) || I <- lists:seq(1, 500)],
	[receive {tick, I} -> ok end || I <- lists:seq(1, 500)],
	io:format("ok~n"),
	halt(0).
