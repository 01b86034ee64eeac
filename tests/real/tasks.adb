--  SPDX-License-Identifier: MIT
--  Ada tasks: rendezvous, a protected object, delays, abort. Prints "ok".
with Ada.Text_IO; use Ada.Text_IO;
procedure Tasks is
   protected Counter is
      procedure Inc;
      function Get return Integer;
   private
      N : Integer := 0;
   end Counter;
   protected body Counter is
      procedure Inc is begin N := N + 1; end Inc;
      function Get return Integer is (N);
   end Counter;

   task type Worker is
      entry Go (Turns : Integer);
   end Worker;
   task body Worker is
      Left : Integer := 0;
   begin
      accept Go (Turns : Integer) do Left := Turns; end Go;
      for I in 1 .. Left loop
         Counter.Inc;
         delay 0.0001;
      end loop;
   end Worker;

   task type Endless;
   task body Endless is
   begin
      loop
         delay 0.001;
      end loop;
   end Endless;
begin
   declare
      Idle : array (1 .. 5) of Endless;
   begin
      declare
         Workers : array (1 .. 40) of Worker;
      begin
         for W of Workers loop
            W.Go (100);
         end loop;
      end;
      for I of Idle loop
         abort I;
      end loop;
   end;
   Put_Line (if Counter.Get = 4000 then "ok" else "wrong");
end Tasks;
