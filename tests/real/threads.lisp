;;; SPDX-License-Identifier: MIT
;;; Threads that count under a mutex and make garbage, which the collector stops them for by signals. Prints "ok".
(let* ((lock (sb-thread:make-mutex))
       (n 0)
       (threads (loop repeat 50
		      collect (sb-thread:make-thread
			       (lambda ()
				 (loop repeat 2000
				       do (make-list 100)
					  (sb-thread:with-mutex (lock) (incf n))))))))
  (mapc #'sb-thread:join-thread threads)
  (sb-ext:gc :full t)
  (format t (if (= n 100000) "ok~%" "wrong~%")))
